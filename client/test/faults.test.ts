/** What goes wrong between a task and the bucket, one thing at a time. */
import { mkdtempSync, openAsBlob, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { createClient, type Client } from "../src/index.js";
import { BACKOFF } from "../src/waiting.js";
import { CHUNK_BYTES, Service, refuseXml } from "./service.js";
import { begin, file, statesOf, until } from "./uploading.js";

let service: Service;
let client: Client;

beforeEach(async () => {
  service = new Service();
  await service.start();
  client = createClient({ baseUrl: service.url });
  Object.assign(BACKOFF, { firstMs: 5, mostMs: 20 });
});
afterEach(async () => {
  vi.unstubAllGlobals();
  await service.stop();
});

const hang = (): void => undefined;
const cut = (request: IncomingMessage): void => void request.socket.destroy();
const ms = (time: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, time));

/** Note when a request whose "METHOD path" matches comes. */
function timesOf(match: RegExp): number[] {
  const times: number[] = [];
  service.faults.push((request) => {
    if (match.test(`${request.method} ${request.url}`)) times.push(performance.now());
    return false;
  });
  return times;
}

/** Return what lets the clock of this process jump; timers go on as before. */
function clock(): (byMs: number) => void {
  const { now } = Date;
  let ahead = 0;
  const spy = vi.spyOn(Date, "now").mockImplementation(() => now() + ahead);
  onTestFinished(() => spy.mockRestore());
  return (byMs) => void (ahead += byMs);
}

describe("pace", () => {
  test.each([429, 503])("a %i of the bucket halves the requests", async (status) => {
    service.concurrency = 8;
    service.fault(/^PUT/, 1, (_, response) => refuseXml(response, status, "SlowDown"));
    service.fault(/^PUT/, -1, hang);
    const task = begin(client, file(40 * CHUNK_BYTES));
    await until(() => task.progress.concurrency === 4);
    await task.cancel();
  });

  test("where each request makes it faster, more are made", async () => {
    const jump = clock();
    service.concurrency = 1;
    service.faults.push(async (request) => {
      if (request.method !== "PUT") return false;
      jump(1000);
      await ms(5);
      return false;
    });
    await begin(client, file(30 * CHUNK_BYTES)).done;
    expect(service.mostAtOnce).toBeGreaterThan(1);
  });

  test.each([false, true])("while the bucket asks to wait, no request is sent (paused and resumed meanwhile: %s)", async (isPaused) => {
    const puts = timesOf(/^PUT/);
    service.fault(/^PUT/, 1, (_, response) => refuseXml(response, 429, "SlowDown", { "Retry-After": "1" }));
    const task = begin(client, file(9 * CHUNK_BYTES), { mostConcurrency: 1 });
    if (isPaused) {
      await until(() => puts.length === 1);
      await ms(100);
      task.pause();
      task.resume();
    }
    await task.done;
    expect(puts[1]! - puts[0]!).toBeGreaterThanOrEqual(990);
  });
});

describe("repeated", () => {
  test.each([408, 429, 500, 502, 503, 504])("a chunk that was answered %i", async (status) => {
    service.fault(/^PUT/, 1, (_, response) => refuseXml(response, status, "Passing"));
    expect((await begin(client, file(3 * CHUNK_BYTES)).done).state).toBe("assembled");
  });

  test("only after a wait, while the others go on", async () => {
    Object.assign(BACKOFF, { firstMs: 400, mostMs: 400 });
    const first = timesOf(/^PUT .*\/0\?/);
    const others = timesOf(/^PUT .*\/[1-9]\?/);
    service.fault(/^PUT .*\/0\?/, 1, (_, response) => refuseXml(response, 500, "InternalError"));
    await begin(client, file(6 * CHUNK_BYTES), { mostConcurrency: 1 }).done;
    expect(first[1]! - first[0]!).toBeGreaterThanOrEqual(195);
    expect(others.filter((at) => at < first[1]!)).not.toEqual([]);
  });

  test("not for ever: the eighth failure of one chunk ends the upload, which can be resumed", async () => {
    const first = timesOf(/^PUT .*\/0\?/);
    service.fault(/^PUT .*\/0\?/, -1, (_, response) => refuseXml(response, 500, "InternalError"));
    await expect(begin(client, file(3 * CHUNK_BYTES)).done).rejects.toMatchObject({ code: "chunk_refused", status: 500, retryable: true, details: { index: 0 } });
    expect(first).toHaveLength(8);
    service.faults = [];
    expect((await begin(client, file(3 * CHUNK_BYTES)).done).state).toBe("assembled");
  });

  test("not where the bucket refuses for good", async () => {
    const puts = timesOf(/^PUT/);
    service.fault(/^PUT/, -1, (_, response) => refuseXml(response, 400, "InvalidArgument"));
    await expect(begin(client, file(10)).done).rejects.toMatchObject({ code: "chunk_refused", status: 400, retryable: false });
    expect(puts).toHaveLength(1);
  });

  test("with another signature where the bucket does not take this one", async () => {
    for (const [status, code] of [[403, "SignatureDoesNotMatch"], [400, "ExpiredToken"]] as const) {
      service.fault(/^PUT/, 1, (_, response) => refuseXml(response, status, code));
    }
    await begin(client, file(10)).done;
    expect(service.calls.filter((line) => /chunks$/.test(line))).toHaveLength(3);
  });
});

describe("412", () => {
  test("says that a chunk is there, not that it is ours: other bytes are refused and never assembled", async () => {
    service.faults.push((request) => {
      if (request.method === "PUT" && /\/2\?/.test(request.url!)) service.only.chunks.set(2, { bytes: Buffer.alloc(CHUNK_BYTES, 7), crc32c: "AAAAAA==" });
      return false;
    });
    await expect(begin(client, file(5 * CHUNK_BYTES)).done).rejects.toMatchObject({ code: "file_changed", details: { index: 2 } });
    expect(service.only.state).toBe("open");
  });

  test("makes the task look what else is there, which it does not send", async () => {
    const content = file(40 * CHUNK_BYTES);
    const page = new AbortController();
    service.fault(/^PUT .*\/39\?/, 1, () => page.abort());
    await expect(begin(client, content, { signal: page.signal, mostConcurrency: 1 }).done).rejects.toThrow();
    const { only } = service;
    const stored = new Map(only.chunks);
    only.chunks.clear();
    let looked!: () => void;
    const hasLooked = new Promise<void>((resolve) => (looked = resolve));
    let puts = 0;
    service.faults = [
      async (request, response) => {
        if (request.method === "PUT" && (puts += 1) === 1) stored.forEach((chunk, index) => only.chunks.set(index, chunk));
        else if (request.method === "PUT") await hasLooked;
        else if (puts > 0) response.on("finish", looked);
        return false;
      },
    ];
    await begin(client, content, { mostConcurrency: 1 }).done;
    // The first, the one that was under way meanwhile, and the one that nobody has sent.
    expect(puts).toBeLessThanOrEqual(4);
  });
});

describe("paused", () => {
  test("what is under way is given up, and nothing is begun by what comes in", async () => {
    service.concurrency = 3;
    let closed = 0;
    service.faults.push((request, response) => {
      if (request.method === "PUT") response.on("close", () => (closed += 1));
      return false;
    });
    service.fault(/^PUT/, 3, hang);
    const content = file(20 * CHUNK_BYTES);
    const task = begin(client, content);
    await until(() => service.mostAtOnce === 3);
    task.pause();
    await until(() => closed === 3);
    // Checksums and signatures that were under way have come in by then.
    await ms(100);
    expect(service.calls.filter((line) => line.startsWith("PUT"))).toHaveLength(3);
    expect(task.progress).toMatchObject({ sentBytes: 0, storedBytes: 0 });
    task.resume();
    expect((await task.done).state).toBe("assembled");
  });
});

describe("without an answer", () => {
  test("once is no reason to say that there is no network", async () => {
    service.fault(/^PUT/, 1, cut);
    const task = begin(client, file(5 * CHUNK_BYTES));
    const states = statesOf(task);
    await task.done;
    expect(states).toEqual(["uploading", "assembling", "assembled"]);
  });

  test("the bucket alone makes it say so, and an answer that it is back, whatever it is", async () => {
    let isCut = true;
    service.faults.push((request) => {
      if (request.method === "PUT" && isCut) cut(request);
      return request.method === "PUT" && isCut;
    });
    service.fault(/^PUT/, 1, (_, response) => refuseXml(response, 500, "InternalError"));
    service.fault(/^PUT/, -1, hang);
    const task = begin(client, file(CHUNK_BYTES));
    await until(() => task.state === "offline");
    isCut = false;
    await until(() => task.state === "uploading");
    await task.cancel();
  });

  test("a service that is away for longer than a call tries makes it say so, wait, and go on", async () => {
    service.fault(/^POST .*\/chunks$/, 12, cut);
    service.fault(/^PUT/, 1, hang);
    const task = begin(client, file(CHUNK_BYTES));
    const states = statesOf(task);
    await until(() => service.mostAtOnce === 1);
    expect(states).toEqual(["uploading", "offline", "uploading"]);
    task.pause();
    task.resume();
    expect((await task.done).state).toBe("assembled");
  });

  test("a browser that loses its network while the file is put together says so, and goes on when it is back", async () => {
    Object.assign(BACKOFF, { firstMs: 3_600_000, mostMs: 3_600_000 });
    const browser = new EventTarget();
    const navigator = { onLine: true };
    vi.stubGlobal("navigator", navigator);
    vi.stubGlobal("addEventListener", browser.addEventListener.bind(browser));
    vi.stubGlobal("removeEventListener", browser.removeEventListener.bind(browser));
    service.fault(/assemble$/, 1, (request) => {
      navigator.onLine = false;
      cut(request);
    });
    const task = begin(client, file(CHUNK_BYTES));
    await until(() => task.state === "offline");
    Object.assign(BACKOFF, { firstMs: 5, mostMs: 20 });
    navigator.onLine = true;
    browser.dispatchEvent(new Event("online"));
    expect((await task.done).state).toBe("assembled");
  });

  test("it is sent again at once when it is paused and resumed, however long it was to wait", async () => {
    const puts = timesOf(/^PUT/);
    service.fault(/^PUT/, 1, (request) => {
      Object.assign(BACKOFF, { firstMs: 3_600_000, mostMs: 3_600_000 });
      cut(request);
    });
    const task = begin(client, file(CHUNK_BYTES));
    await until(() => puts.length === 1);
    await ms(100);
    task.pause();
    task.resume();
    expect((await task.done).state).toBe("assembled");
  });

  test("a browser that is back is tried at once, and half an hour counts from then; afterwards nothing listens to it", async () => {
    const browser = new EventTarget();
    const navigator = { onLine: true };
    const listening = vi.fn(browser.addEventListener.bind(browser));
    const removed = vi.fn(browser.removeEventListener.bind(browser));
    vi.stubGlobal("navigator", navigator);
    vi.stubGlobal("addEventListener", listening);
    vi.stubGlobal("removeEventListener", removed);
    const jump = clock();
    const puts = timesOf(/^PUT/);
    service.fault(/^PUT/, 1, (request) => {
      Object.assign(BACKOFF, { firstMs: 86_400_000, mostMs: 86_400_000 });
      navigator.onLine = false;
      browser.dispatchEvent(new Event("offline"));
      cut(request);
    });
    service.fault(/^PUT/, 1, (request) => {
      Object.assign(BACKOFF, { firstMs: 5, mostMs: 20 });
      cut(request);
    });
    const task = begin(client, file(CHUNK_BYTES));
    await until(() => puts.length === 1 && task.state === "offline");
    await ms(50);
    jump(40 * 60_000);
    navigator.onLine = true;
    browser.dispatchEvent(new Event("online"));
    expect((await task.done).state).toBe("assembled");
    const names = (calls: unknown[][]): unknown[] => calls.map(([name, listener]) => [name, listener]);
    expect(names(removed.mock.calls)).toEqual(expect.arrayContaining(names(listening.mock.calls)));
  });

  test("a bucket that has answered this page is not asked whether it may", async () => {
    vi.stubGlobal("location", new URL("https://page.example/"));
    const asked: string[] = [];
    let puts = 0;
    const send: typeof fetch = (url, init) => {
      if (init?.method === "PUT" && (puts += 1) === 2) return Promise.reject(new TypeError("Failed to fetch"));
      if (String(url).includes("/bucket/")) asked.push(`${init!.method}, cookies: ${init!.credentials}`);
      return fetch(url, init);
    };
    await begin(createClient({ baseUrl: service.url }, { fetch: send }), file(3 * CHUNK_BYTES), { mostConcurrency: 1 }).done;
    expect(asked).toEqual(Array.from({ length: 3 }, () => "PUT, cookies: omit"));
  });

  test("one request at a time asks whether it is back, with waits between them", async () => {
    Object.assign(BACKOFF, { firstMs: 100, mostMs: 100 });
    service.concurrency = 4;
    const puts = timesOf(/^PUT/);
    service.fault(/^PUT/, -1, cut);
    const task = begin(client, file(20 * CHUNK_BYTES));
    await until(() => task.state === "offline" && puts.length >= 8);
    await task.cancel();
    // The first four were under way together.
    const waits = puts.slice(5).map((at, nth) => at - puts[nth + 4]!);
    for (const wait of waits) expect(wait).toBeGreaterThanOrEqual(45);
  });

  test.each([
    ["the bucket", /^PUT/],
    ["the service", /^POST .*\/chunks$/],
  ])("of %s for half an hour, the upload fails and can be resumed", async (_, match) => {
    const jump = clock();
    const content = file(5 * CHUNK_BYTES);
    service.fault(match, -1, (request) => {
      jump(10 * 60_000);
      cut(request);
    });
    await expect(begin(client, content).done).rejects.toMatchObject({ code: "unreachable", retryable: true });
    service.faults = [];
    expect((await begin(client, content).done).state).toBe("assembled");
  });

  test("a page that may not ask the bucket is told what is missing", async () => {
    vi.stubGlobal("location", new URL("https://page.example/"));
    const send: typeof fetch = (url, init) => {
      if (!String(url).includes("/bucket/")) return fetch(url, init);
      return init?.mode === "no-cors" ? Promise.resolve(new Response()) : Promise.reject(new TypeError("Failed to fetch"));
    };
    const shutOut = createClient({ baseUrl: service.url }, { fetch: send });
    await expect(begin(shutOut, file(10)).done).rejects.toMatchObject({
      code: "cors",
      detail: expect.stringContaining(`${service.url} does not send Access-Control-Allow-Origin for https://page.example`),
    });
  });
});

describe("a file of a disk", () => {
  const folder = mkdtempSync(join(tmpdir(), "client-"));
  const path = join(folder, "data.csv");
  // One chunk: nothing is read for its checksum any more when it is signed.
  const content = Buffer.alloc(CHUNK_BYTES, "1,2\n");

  beforeEach(() => writeFileSync(path, content));
  afterAll(() => rmSync(folder, { recursive: true }));

  test("that is deleted before it is read is said to be unreadable", async () => {
    const blob = await openAsBlob(path);
    rmSync(path);
    await expect(begin(client, blob, { fileName: "data.csv" }).done).rejects.toMatchObject({ code: "file_unreadable" });
    expect(service.puts).toBe(0);
  });

  test("that is changed once its checksums are known is said to be changed", async () => {
    const blob = await openAsBlob(path);
    service.faults.push((request) => {
      if (/chunks$/.test(request.url!)) writeFileSync(path, content.subarray(1));
      return false;
    });
    await expect(begin(client, blob, { fileName: "data.csv" }).done).rejects.toMatchObject({
      code: "file_unreadable",
      detail: "The file was changed, moved or deleted while it was uploaded.",
    });
    expect(service.puts).toBe(0);
  });
});
