import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { TrainshedError, createClient, isTrainshedError, type Client } from "../src/index.js";
import { BACKOFF, retryAfterMs, waitMs } from "../src/waiting.js";

const asked: { method: string; url: string; body: unknown; headers: Record<string, string>; credentials: string | undefined }[] = [];
let answers: (Response | Error)[] = [];
const before = { ...BACKOFF };

async function send(url: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
  asked.push({
    method: init.method!,
    url: String(url),
    body: init.body ? JSON.parse(String(init.body)) : undefined,
    headers: init.headers as Record<string, string>,
    credentials: init.credentials,
  });
  const next = answers.shift() ?? ok({});
  if (next instanceof Error) throw next;
  return next;
}

const ok = (data: unknown): Response => Response.json({ success: true, data });
const problem = (status: number, code: string, retryable = false): Response =>
  Response.json({ code, detail: "Because.", status, retryable, request_id: "r", details: { field: "x" } }, { status });

const client = createClient({ baseUrl: "https://t.example/" }, { fetch: send });

beforeEach(() => {
  asked.length = 0;
  answers = [];
  Object.assign(BACKOFF, { firstMs: 1, mostMs: 2 });
});
afterEach(() => void Object.assign(BACKOFF, before));

describe("requests", () => {
  test.each([
    ["GET", "/list-sessions?limit=2", () => client.sessions.list({ limit: 2 })],
    ["GET", "/list-sessions?search=50%25+%26+more", () => client.sessions.list({ search: "50% & more" })],
    ["GET", "/list-sessions?page_token=a%26b", () => client.sessions.list({ pageToken: "a&b" })],
    ["GET", "/session/a%3Ab%2Fc", () => client.sessions.get("a:b/c")],
    ["POST", "/session/s/delete", () => client.sessions.remove("s")],
    ["POST", "/finalize-session", () => client.sessions.finalize("s")],
    ["POST", "/train/s", () => client.training.start("s", { target: "y" })],
    ["GET", "/train/s", () => client.training.get("s")],
    ["POST", "/train/s/cancel", () => client.training.cancel("s")],
    ["GET", "/list-models-database/s", () => client.models.list("s")],
    ["POST", "/save-model/s", () => client.models.save("s")],
    ["GET", "/download-model-h5/s?id=1&format=onnx&redirect=false", () => client.models.downloadUrl("s", { id: "1", format: "onnx" })],
    ["GET", "/plot-variables/s?points=9&columns=a%2C%22b%2C%22%22c%22", () => client.results.plotVariables("s", { points: 9, columns: ["a", 'b,"c'] })],
    ["GET", "/visualizations/s", () => client.results.visualizations("s")],
    ["GET", "/visualizations/s?name=m.c&format=png&theme=dark", () => client.results.picture("s", "m.c", { format: "png", theme: "dark" })],
    ["GET", "/scalers/s", () => client.results.scalers("s")],
    ["GET", "/evaluation-tables/s?name=e&format=csv", () => client.results.evaluationTableFile("s", "e")],
  ])("%s %s", async (method, path, call) => {
    await call();
    expect(asked[0]).toMatchObject({ method, url: `https://t.example/api/training${path}`, credentials: "omit" });
  });

  test("each function can have an address of its own", async () => {
    const spread = createClient({ urls: { "get-session": "https://one.example/", train: "https://two.example" } }, { fetch: send });
    await spread.sessions.get("s");
    await spread.training.start("s", { target: "y" });
    expect(asked.map(({ url }) => url)).toEqual(["https://one.example/session/s", "https://two.example/train/s"]);
    await expect(spread.models.list("s")).rejects.toThrow(/list-models/);
  });

  test("an address with a path is taken as it is", async () => {
    await createClient({ baseUrl: "/backend" }, { fetch: send }).sessions.list();
    await createClient({ baseUrl: "" }, { fetch: send }).sessions.list();
    expect(asked.map(({ url }) => url)).toEqual(["/backend/list-sessions", "/api/training/list-sessions"]);
  });

  test("a fetch that somebody puts in place of the global one later is used", async () => {
    const early = createClient({ baseUrl: "https://t.example" });
    vi.stubGlobal("fetch", send);
    onTestFinished(() => void vi.unstubAllGlobals());
    await early.sessions.list();
    expect(asked).toHaveLength(1);
  });

  test("the token is asked for before each request, and sent only if there is one", async () => {
    const tokens = ["a", null];
    const signedIn = createClient({ baseUrl: "https://t.example" }, { fetch: send, getToken: async () => tokens.shift() });
    await signedIn.sessions.list();
    await signedIn.sessions.list();
    expect(asked.map(({ headers }) => headers["Authorization"])).toEqual(["Bearer a", undefined]);
  });
});

describe("errors", () => {
  test("a refusal is an error with all that the service says", async () => {
    answers = [problem(422, "invalid_field")];
    const error = await client.sessions.get("s").catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TrainshedError);
    expect(error).toMatchObject({ code: "invalid_field", status: 422, retryable: false, detail: "Because.", message: "Because.", requestId: "r", details: { field: "x" } });
    expect(asked).toHaveLength(1);
  });

  test("one is told from another by its code, and from what somebody else has thrown", () => {
    const error = new TrainshedError("cors", "Not allowed.");
    expect([isTrainshedError(error), isTrainshedError(error, "cors"), isTrainshedError(error, "unreachable")]).toEqual([true, true, false]);
    expect(isTrainshedError({ code: "cors" }, "cors")).toBe(false);
  });

  test("what is passing is repeated a few times", async () => {
    answers = [problem(503, "unavailable", true), new TypeError("network"), new Response("<html>", { status: 502 }), ok({ count: 0 })];
    expect(await client.sessions.list()).toEqual({ count: 0 });
    answers = Array.from({ length: 9 }, () => problem(503, "unavailable", true));
    asked.length = 0;
    await expect(client.sessions.list()).rejects.toMatchObject({ code: "unavailable" });
    expect(asked).toHaveLength(5);
  });

  test("a full quota is not repeated", async () => {
    answers = [problem(429, "processing_limit_reached")];
    await expect(client.uploads.create({ sessionId: "s", fileName: "f", size: 1 })).rejects.toMatchObject({ code: "processing_limit_reached" });
    expect(asked).toHaveLength(1);
  });

  test("something else that answers is named", async () => {
    answers = [new Response("<html>hello</html>", { status: 200 })];
    await expect(client.sessions.list()).rejects.toMatchObject({ code: "unexpected_answer" });
  });

  test("a token that is refused twice is an error", async () => {
    const signedIn = createClient({ baseUrl: "https://t.example" }, { fetch: send, getToken: (refused) => (refused ? "b" : "a") });
    answers = [problem(401, "unauthenticated"), problem(401, "unauthenticated")];
    await expect(signedIn.sessions.list()).rejects.toMatchObject({ code: "unauthenticated", status: 401 });
    expect(asked.map(({ headers }) => headers["Authorization"])).toEqual(["Bearer a", "Bearer b"]);
  });

  describe("an expired token", () => {
    /** Refuse the first token that comes, and those who bring it later. */
    const refusing = (): typeof fetch => async (_, init) =>
      (init!.headers as Record<string, string>)["Authorization"] === "Bearer a" ? problem(401, "unauthenticated") : ok({ count: 0 });

    test("is renewed once for all requests that wait for another", async () => {
      const renewals: ((token: string) => void)[] = [];
      const getToken = (refused?: string): string | Promise<string> => (refused ? new Promise((resolve) => renewals.push(resolve)) : "a");
      const signedIn = createClient({ baseUrl: "https://t.example" }, { fetch: refusing(), getToken });
      const calls = [signedIn.sessions.list(), signedIn.sessions.list(), signedIn.training.get("s")];
      await vi.waitFor(() => expect(renewals).not.toHaveLength(0));
      renewals[0]!("b");
      await Promise.all(calls);
      expect(renewals).toHaveLength(1);
    });

    test("is not renewed again for a request that was refused after another one had it renewed", async () => {
      let token = "a";
      const refused = vi.fn();
      const getToken = (old?: string): string => (old && (refused(old), (token = "b")), token);
      const send = refusing();
      let letGo!: () => void;
      const first = new Promise<void>((resolve) => (letGo = resolve));
      const slow: typeof fetch = async (url, init) => (String(url).includes("/train/") && (await first), send(url, init));
      const signedIn = createClient({ baseUrl: "https://t.example" }, { fetch: slow, getToken });
      const late = signedIn.training.get("s");
      await signedIn.sessions.list();
      letGo();
      await late;
      expect(refused.mock.calls).toEqual([["a"]]);
    });

    test("that could not be renewed is asked for again by the next request", async () => {
      let isSignedIn = false;
      const getToken = (refused?: string): string | null => (refused && isSignedIn ? "b" : refused ? null : "a");
      const signedIn = createClient({ baseUrl: "https://t.example" }, { fetch: refusing(), getToken });
      await expect(signedIn.sessions.list()).rejects.toMatchObject({ status: 401 });
      isSignedIn = true;
      expect(await signedIn.sessions.list()).toEqual({ count: 0 });
    });
  });

  test("a connection that breaks within an answer is repeated like one without", async () => {
    const broken = (status: number): Response =>
      new Response(new ReadableStream({ pull: (reader) => reader.error(new TypeError("terminated")) }), { status });
    answers = [broken(200), broken(404), ok({ count: 0 })];
    expect(await client.sessions.list()).toEqual({ count: 0 });
    answers = [broken(200), new Response("<svg/>")];
    expect(await (await client.results.picture("s", "c")).text()).toBe("<svg/>");
    answers = Array.from({ length: 9 }, () => broken(200));
    await expect(client.sessions.list()).rejects.toMatchObject({ code: "unreachable", retryable: true });
  });

  test("a call that is given up while its answer is read says so", async () => {
    const page = new AbortController();
    answers = [new Response(new ReadableStream({ pull: (reader) => (page.abort(), reader.error(page.signal.reason)) }))];
    await expect(client.sessions.list({}, { signal: page.signal })).rejects.toMatchObject({ code: "cancelled" });
  });

  test("what is not done yet is asked for again, as late as the service says", async () => {
    answers = [new Response("{}", { status: 202, headers: { "Retry-After": "1" } }), ok({ url: "https://b.example/m" })];
    const begun = performance.now();
    expect(await client.models.downloadUrl("s")).toBe("https://b.example/m");
    expect(performance.now() - begun).toBeGreaterThanOrEqual(990);
  });

  test("what is not done yet is asked for again after a second where the service does not say when", async () => {
    answers = [new Response("{}", { status: 202 }), ok({ url: "https://b.example/m" })];
    const begun = performance.now();
    expect(await client.models.downloadUrl("s")).toBe("https://b.example/m");
    expect(performance.now() - begun).toBeGreaterThanOrEqual(990);
  });

  test("functions are asked again as late as they say", async () => {
    answers = [Response.json({ code: "unavailable", retryable: true }, { status: 503, headers: { "Retry-After": "1" } }), ok({ count: 0 })];
    const begun = performance.now();
    expect(await client.sessions.list()).toEqual({ count: 0 });
    expect(performance.now() - begun).toBeGreaterThanOrEqual(990);
  });

  test("a signal ends a call that is under way", async () => {
    const hanging: typeof fetch = (_, init) => new Promise((_, reject) => init!.signal!.addEventListener("abort", () => reject(init!.signal!.reason)));
    const page = new AbortController();
    const call = createClient({ baseUrl: "https://t.example" }, { fetch: hanging }).sessions.list({}, { signal: page.signal });
    setTimeout(() => page.abort(), 10);
    await expect(call).rejects.toMatchObject({ code: "cancelled" });
  });

  test.each([
    ["list-sessions", 40_000, (silent: Client) => silent.sessions.list()],
    ["list-sessions with a signal", 40_000, (silent: Client) => silent.sessions.list({}, { signal: new AbortController().signal })],
    ["save-model", 550_000, (silent: Client) => silent.models.save("s")],
  ])("a connection on which nothing comes is given up after the longest that a function may take, and another one tried: %s", async (_, ms, call) => {
    vi.useFakeTimers();
    // Those of signals are none that could be advanced.
    vi.spyOn(AbortSignal, "timeout").mockImplementation((after) => {
      const page = new AbortController();
      setTimeout(() => page.abort(new DOMException("late", "TimeoutError")), after);
      return page.signal;
    });
    // A page that would ask whether it is a matter of CORS.
    vi.stubGlobal("location", new URL("https://page.example/"));
    onTestFinished(() => void vi.useRealTimers().restoreAllMocks().unstubAllGlobals());
    const hanging = vi.fn<typeof fetch>(
      (_, init) => new Promise((_, reject) => init!.signal!.addEventListener("abort", () => reject(init!.signal!.reason))),
    );
    const ended = vi.fn();
    call(createClient({ baseUrl: "https://t.example" }, { fetch: hanging })).catch(ended);
    await vi.advanceTimersByTimeAsync(ms - 1);
    expect(hanging).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(10);
    expect(hanging).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(4 * ms + 40);
    expect(ended.mock.calls).toEqual([[expect.objectContaining({ code: "unreachable", retryable: true })]]);
    expect(hanging).toHaveBeenCalledTimes(5);
  });

  test("a signal ends a call, also while it waits", async () => {
    Object.assign(BACKOFF, { firstMs: 60_000, mostMs: 60_000 });
    answers = [problem(503, "unavailable", true)];
    const page = new AbortController();
    const call = client.sessions.list({}, { signal: page.signal });
    setTimeout(() => page.abort(), 10);
    await expect(call).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("waits", () => {
  test("they double, with jitter over the upper half, up to a limit", () => {
    const backoff = { firstMs: 100, mostMs: 1000 };
    for (const [failures, most] of [[1, 100], [2, 200], [3, 400], [10, 1000], [10_000, 1000]] as const) {
      for (let n = 0; n < 50; n += 1) {
        const ms = waitMs(failures, null, backoff);
        expect(ms).toBeGreaterThanOrEqual(most / 2);
        expect(ms).toBeLessThanOrEqual(most);
      }
    }
  });

  test("those of many clients do not fall on one moment", () => {
    const waits = Array.from({ length: 50 }, () => waitMs(1, null, { firstMs: 1000, mostMs: 1000 }));
    expect(new Set(waits).size).toBeGreaterThan(40);
  });

  test("they are never shorter than the server asks", () => {
    expect(waitMs(1, 5000, { firstMs: 1, mostMs: 2 })).toBe(5000);
  });

  test("Retry-After is seconds or a date", () => {
    const now = Date.parse("2026-11-26T12:00:00Z");
    expect(retryAfterMs("2")).toBe(2000);
    expect(retryAfterMs("Thu, 26 Nov 2026 12:00:05 GMT", now)).toBe(5000);
    expect(retryAfterMs("Thu, 26 Nov 2026 11:00:00 GMT", now)).toBe(0);
    expect(retryAfterMs(null)).toBeNull();
    expect(retryAfterMs("soon")).toBeNull();
    expect(retryAfterMs(" ")).toBeNull();
    expect(retryAfterMs("-1")).toBe(0);
  });

  test("more than a day is not waited: a timer that cannot count so far would end at once", () => {
    expect(retryAfterMs("99999999")).toBe(24 * 3600 * 1000);
    expect(retryAfterMs("Thu, 26 Nov 2099 12:00:00 GMT")).toBe(24 * 3600 * 1000);
  });
});
