import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { bucketFault, functionsFault } from "../src/cors.js";
import { createClient } from "../src/index.js";

const PAGE = "https://page.example";
const SAFE_METHODS = ["GET", "HEAD", "POST"];

/** What somebody at another origin allows a page. */
interface Rule {
  origin?: boolean;
  methods?: string[];
  headers?: string[];
  answers?: boolean;
}

const sent: { url: string; method: string; headers: string[]; credentials: string | undefined }[] = [];

/** Send as a browser does by a rule: it asks before it sends, and withholds what the page may not see. */
function browser({ origin = true, methods = ["PUT"], headers = [], answers = true }: Rule): typeof fetch {
  return async (input, { method = "GET", headers: wanted = {}, mode, credentials } = {}) => {
    const names = Object.keys(wanted);
    const isAsked = !SAFE_METHODS.includes(method) || names.length > 0;
    const isAllowed = origin && [...SAFE_METHODS, ...methods].includes(method) && names.every((name) => headers.includes(name));
    if (!answers || (isAsked && !isAllowed)) throw new TypeError("Failed to fetch");
    sent.push({ url: String(input), method, headers: names, credentials });
    if (mode === "no-cors") return new Response();
    if (!origin || ![...methods, "GET"].includes(method)) throw new TypeError("Failed to fetch");
    return new Response("", { status: 403 });
  };
}

beforeEach(() => {
  sent.length = 0;
  vi.stubGlobal("location", new URL(`${PAGE}/uploads`));
});
afterEach(() => void vi.unstubAllGlobals());

describe("a bucket", () => {
  const HEADERS = ["x-goog-content-length-range", "x-goog-hash", "x-goog-if-generation-match"];
  const fault = (rule: Rule, url = "https://bucket.example/chunks/u/0?X-Goog-Signature=s"): Promise<string | null> =>
    bucketFault(browser({ headers: HEADERS, ...rule }), url, "PUT", HEADERS);

  test("that does not know the page's origin is said to lack Access-Control-Allow-Origin", async () => {
    expect(await fault({ origin: false })).toBe(
      `https://bucket.example does not send Access-Control-Allow-Origin for ${PAGE}: add it to the bucket's CORS rule (origins, methods or response_headers).`,
    );
  });

  test("that does not allow the method is said so", async () => {
    expect(await fault({ methods: ["HEAD"] })).toMatch(/^https:\/\/bucket.example does not list PUT in Access-Control-Allow-Methods for /);
  });

  test.each(HEADERS)("that does not list %s is said so", async (header) => {
    expect(await fault({ headers: HEADERS.filter((one) => one !== header) })).toMatch(
      new RegExp(`^https://bucket.example does not list ${header} in Access-Control-Allow-Headers for `),
    );
  });

  test("that lists none has all of them named", async () => {
    expect(await fault({ headers: [] })).toContain(`does not list ${HEADERS.join(", ")} in`);
  });

  test("that allows everything, does not answer, or is the page's own has no such fault", async () => {
    expect(await fault({})).toBeNull();
    expect(await fault({ answers: false })).toBeNull();
    expect(await fault({ origin: false }, "/bucket/chunks/u/0")).toBeNull();
  });

  test("is asked without signature and without cookies", async () => {
    await fault({ headers: [] });
    expect(new Set(sent.map(({ url }) => url))).toEqual(new Set(["https://bucket.example/chunks/u/0"]));
    expect(new Set(sent.map(({ credentials }) => credentials))).toEqual(new Set(["omit"]));
  });
});

describe("functions", () => {
  const URL = "https://functions.example/init-session";

  test("that do not know the page's origin are said to lack Access-Control-Allow-Origin", async () => {
    expect(await functionsFault(browser({ origin: false }), URL, [])).toBe(
      `https://functions.example does not send Access-Control-Allow-Origin for ${PAGE}: add it to the functions' ALLOWED_ORIGINS.`,
    );
  });

  test.each(["Authorization", "Content-Type"])("that do not list %s are said so, and it is the error of the call", async (header) => {
    const headers = ["Authorization", "Content-Type"].filter((one) => one !== header);
    const client = createClient({ baseUrl: "https://functions.example" }, { fetch: browser({ headers }), getToken: () => "secret" });
    await expect(client.sessions.init("s")).rejects.toMatchObject({
      code: "cors",
      retryable: false,
      detail: expect.stringContaining(`https://functions.example does not list ${header} in Access-Control-Allow-Headers for ${PAGE}`),
    });
  });

  test("that allow everything or do not answer have no such fault", async () => {
    expect(await functionsFault(browser({ headers: ["Authorization"] }), URL, ["Authorization"])).toBeNull();
    expect(await functionsFault(browser({ answers: false }), URL, ["Authorization"])).toBeNull();
  });
});

test("a network that fails while it is asked is no such fault", async () => {
  for (const last of [1, 2, 3, 4]) {
    const allowed = browser({ methods: [], headers: ["x-goog-hash", "Authorization"] });
    const cut: typeof fetch = (url, init) => (sent.length < last ? allowed(url, init) : Promise.reject(new TypeError("Failed to fetch")));
    sent.length = 0;
    expect(await bucketFault(cut, "https://bucket.example/o", "GET", ["x-goog-hash"])).toBeNull();
    sent.length = 0;
    expect(await functionsFault(cut, "https://functions.example/o", ["Authorization"])).toBeNull();
  }
});

test("outside of browsers nothing is asked", async () => {
  vi.unstubAllGlobals();
  expect(await bucketFault(browser({ origin: false }), "https://bucket.example/o", "PUT", [])).toBeNull();
  expect(sent).toEqual([]);
});
