import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { createClient, type Client, type UploadTask } from "../src/index.js";
import { BACKOFF } from "../src/waiting.js";
import { CHUNK_BYTES, Service, answer, refuse, refuseXml } from "./service.js";
import { begin, file, statesOf, until } from "./uploading.js";

const service = { now: new Service() };
let client: Client;

beforeEach(async () => {
  service.now = new Service();
  await service.now.start();
  client = createClient({ baseUrl: service.now.url });
  // The waits have their own tests; here they only have to be there.
  Object.assign(BACKOFF, { firstMs: 5, mostMs: 20 });
});

afterEach(() => service.now.stop());

function start(content: Blob, options: Parameters<typeof begin>[2] = {}, by: Client = client): UploadTask {
  return begin(by, content, options);
}

async function sameAsStored(content: Blob): Promise<boolean> {
  const stored = await new Blob(service.now.contentOf(service.now.only)).arrayBuffer();
  return Buffer.from(stored).equals(Buffer.from(await content.arrayBuffer()));
}

test.each([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 40 * CHUNK_BYTES + 7])("a file of %i bytes arrives as it is", async (size) => {
  const content = file(size);
  const task = start(content);
  const states = statesOf(task);
  const upload = await task.done;
  expect(upload.state).toBe("assembled");
  expect(states).toEqual(["uploading", "assembling", "assembled"]);
  expect(task.progress).toMatchObject({ storedBytes: size, sentBytes: size, totalBytes: size });
  expect(await sameAsStored(content)).toBe(true);
});

test("several chunks are on their way at once, and no more than allowed", async () => {
  service.now.faults.push(async (request) => {
    if (request.method === "PUT") await new Promise((resolve) => setTimeout(resolve, 10));
    return false;
  });
  await start(file(30 * CHUNK_BYTES), { mostConcurrency: 3 }).done;
  expect(service.now.mostAtOnce).toBe(3);
});

test("progress never goes back, and counts as stored only what the bucket has confirmed", async () => {
  const task = start(file(50 * CHUNK_BYTES + 1));
  const seen: number[] = [];
  task.on("progress", ({ storedBytes }) => {
    seen.push(storedBytes);
    expect(storedBytes).toBeLessThanOrEqual([...service.now.only.chunks.values()].reduce((sum, { bytes }) => sum + bytes.length, 0));
  });
  await task.done;
  expect(seen).toEqual([...seen].sort((one, other) => one - other));
  expect(seen.at(-1)).toBe(50 * CHUNK_BYTES + 1);
});

test("the columns are known when the first chunk is in", async () => {
  service.now.fault(/^PUT .*\/(?!0\?)\d+\?/, 1, () => undefined); // one chunk hangs
  const task = start(file(3 * CHUNK_BYTES));
  await until(() => task.table !== null);
  expect(task.state).toBe("uploading");
  expect(task.table?.columns).toEqual([{ name: "x", type: "integer" }]);
  await task.cancel();
});

test("a new upload is opened without signatures that nobody uses, and without asking what it holds", async () => {
  let wish: unknown;
  const seen = createClient(
    { baseUrl: service.now.url },
    { fetch: (url, init) => (String(url).endsWith("/uploads") && (wish = JSON.parse(String(init?.body))), fetch(url, init)) },
  );
  await start(file(3), {}, seen).done;
  expect(wish).toMatchObject({ presign: 0 });
  expect(service.now.calls[1]).toMatch(/^POST .*\/chunks$/);
});

test("what is passing is repeated: 503, 429, a broken connection, bytes damaged on their way", async () => {
  service.now.fault(/^PUT/, 2, (_, response) => refuseXml(response, 503, "ServiceUnavailable"));
  service.now.fault(/^PUT/, 2, (_, response) => refuseXml(response, 429, "SlowDown", { "Retry-After": "0" }));
  service.now.fault(/^PUT/, 2, (request) => request.socket.destroy());
  service.now.fault(/^PUT/, 1, (_, response) => refuseXml(response, 400, "BadDigest"));
  service.now.fault(/^POST/, 1, (_, response) => refuse(response, 503, "database_unavailable", {}, true));
  service.now.fault(/^GET/, 1, (request) => request.socket.destroy());
  const content = file(20 * CHUNK_BYTES);
  await start(content).done;
  expect(await sameAsStored(content)).toBe(true);
});

test("an answer that was lost is no harm: 412 says that the chunk is there", async () => {
  const content = file(5 * CHUNK_BYTES);
  service.now.faults.push((request, response) => {
    // Stored, but the answer does not arrive.
    if (request.method === "PUT" && /\/2\?/.test(request.url!) && !service.now.only.chunks.has(2)) {
      response.end = () => response.destroy();
    }
    return false;
  });
  await start(content).done;
  expect(await sameAsStored(content)).toBe(true);
});

test("expired addresses are signed again", async () => {
  const sign = service.now.sign.bind(service.now);
  let signed = 0;
  service.now.sign = (upload, chunk) => sign(upload, chunk, (signed += 1) <= 6 ? 1 : undefined);
  const content = file(10 * CHUNK_BYTES);
  await start(content).done;
  expect(await sameAsStored(content)).toBe(true);
});

test("an address that is refused however often it is signed ends the upload", async () => {
  service.now.fault(/^PUT/, -1, (_, response) => refuseXml(response, 403, "SignatureDoesNotMatch"));
  const task = start(file(10));
  await expect(task.done).rejects.toMatchObject({ code: "chunk_refused", status: 403 });
  expect(task.state).toBe("failed");
});

test("paused, nothing is sent; resumed, only what is missing", async () => {
  const content = file(40 * CHUNK_BYTES);
  const task = start(content);
  const states = statesOf(task);
  await until(() => task.progress.chunks.stored >= 5);
  task.pause();
  expect(task.state).toBe("paused");
  await new Promise((resolve) => setTimeout(resolve, 50));
  const puts = service.now.puts;
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(service.now.puts).toBe(puts);
  task.resume();
  await task.done;
  expect(states).toEqual(["uploading", "paused", "uploading", "assembling", "assembled"]);
  expect(await sameAsStored(content)).toBe(true);
});

test("paused before it begins, it does not begin", async () => {
  const task = start(file(10));
  task.pause();
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(service.now.puts).toBe(0);
  task.resume();
  await task.done;
});

test("paused while it is opened, it asks for nothing more until it is resumed", async () => {
  const task = start(file(10));
  service.now.faults.push((request) => (request.url!.endsWith("/uploads") && task.pause(), false));
  await until(() => task.uploadId !== null);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(service.now.calls).toHaveLength(1);
  task.resume();
  expect((await task.done).state).toBe("assembled");
});

test("cancelled, the upload is given up and its storage is free", async () => {
  const task = start(file(40 * CHUNK_BYTES));
  await until(() => task.progress.chunks.stored >= 3);
  await task.cancel();
  await expect(task.done).rejects.toMatchObject({ code: "cancelled" });
  expect(task.state).toBe("aborted");
  expect(service.now.only).toMatchObject({ state: "aborted" });
});

test("a signal stops the task and keeps what is stored; another task resumes it and sends the rest alone", async () => {
  const content = file(40 * CHUNK_BYTES);
  const page = new AbortController();
  const first = start(content, { signal: page.signal });
  await until(() => first.progress.chunks.stored >= 10);
  page.abort();
  await expect(first.done).rejects.toMatchObject({ code: "cancelled" });
  await new Promise((resolve) => setTimeout(resolve, 30));
  const stored = service.now.only.chunks.size;
  service.now.puts = 0;
  const second = start(content, { uploadId: first.uploadId! });
  await second.done;
  expect(service.now.puts).toBe(40 - stored);
  expect(await sameAsStored(content)).toBe(true);
});

test("another file of the same size is refused with the first chunk that differs, before anything is sent", async () => {
  const content = new Uint8Array(await file(10 * CHUNK_BYTES).arrayBuffer());
  const page = new AbortController();
  service.now.fault(/^PUT .*\/9\?/, 1, () => page.abort());
  await expect(start(new File([content], "data.csv"), { signal: page.signal, mostConcurrency: 1 }).done).rejects.toThrow();
  service.now.puts = 0;
  content[3 * CHUNK_BYTES + 1]! ^= 1;
  content[7 * CHUNK_BYTES]! ^= 1;
  const other = start(new File([content], "data.csv"));
  await expect(other.done).rejects.toMatchObject({ code: "file_changed", details: { index: 3, from: 3000, to: 3999 } });
  expect(service.now.puts).toBe(0);
});

test("a file of another size is refused with both sizes, and nothing of it is read", async () => {
  const { uploadId } = await client.uploads.create({ sessionId: "s", fileName: "data.csv", size: 10 });
  const other = { size: 11, type: "", name: "data.csv", slice: () => new Blob([]) } as unknown as File;
  const slice = vi.spyOn(other, "slice");
  await expect(start(other, { uploadId }).done).rejects.toMatchObject({ code: "file_changed", details: { size: 11, expected: 10 } });
  expect(slice).not.toHaveBeenCalled();
  expect(service.now.puts).toBe(0);
});

test("an old client's upload, which has no plan, is not continued, and that is said", async () => {
  const { uploadId } = await client.uploads.create({ sessionId: "s", fileName: "data.csv", size: 10 });
  Object.assign(service.now.only, { size: null });
  await expect(start(file(10), { uploadId }).done).rejects.toMatchObject({ code: "upload_ended", detail: expect.stringContaining("an old client's") });
  expect(service.now.puts).toBe(0);
});

test("an upload of another session is not continued", async () => {
  const { uploadId } = await client.uploads.create({ sessionId: "other", fileName: "data.csv", size: 10 });
  await expect(start(file(10), { uploadId }).done).rejects.toMatchObject({ code: "file_changed", detail: expect.stringContaining("session other") });
  expect(service.now.puts).toBe(0);
});

test("a file whose sha256 the service knew is not read again", async () => {
  const content = file(3 * CHUNK_BYTES);
  await start(content).done;
  const unread = { size: content.size, type: "", name: "data.csv", slice: () => { throw new Error("read"); } } as unknown as File;
  expect((await start(unread, { sha256: "0".repeat(64) }).done).state).toBe("assembled");
});

test("a file that another page is having assembled is compared when it is done", async () => {
  const content = file(3 * CHUNK_BYTES);
  await start(content).done;
  service.now.puts = 0;
  for (const [again, isSame] of [[content, true], [file(3 * CHUNK_BYTES, 7), false]] as const) {
    service.now.only.state = "assembling";
    const task = start(again);
    if (isSame) expect((await task.done).state).toBe("assembled");
    else await expect(task.done).rejects.toMatchObject({ code: "file_changed" });
  }
  expect(service.now.puts).toBe(0);
});

test("what another page has sent and assembled meanwhile is taken, compared, as the end", async () => {
  const content = file(3 * CHUNK_BYTES);
  await start(content).done;
  const { only } = service.now;
  service.now.puts = 0;
  const chunks = new Map(only.chunks);
  const meanwhile = (code: string): void => {
    only.state = "open";
    only.chunks.clear();
    if (code === "wrong_state") chunks.forEach((chunk, index) => index > 0 && only.chunks.set(index, chunk));
    service.now.fault(code === "wrong_state" ? /chunks$/ : /assemble$/, 1, (_, response) => {
      chunks.forEach((chunk, index) => only.chunks.set(index, chunk));
      only.state = "assembled";
      refuse(response, 409, "wrong_state", { state: "assembled" });
    });
  };
  meanwhile("wrong_state");
  expect((await start(content).done).state).toBe("assembled");
  expect(service.now.puts).toBe(0);
  meanwhile("at the end");
  expect((await start(content).done).state).toBe("assembled");
  only.crc32c = "AAAAAA==";
  meanwhile("at the end");
  await expect(start(content).done).rejects.toMatchObject({ code: "file_changed" });
});

test("a file that was assembled before is compared, not sent; another one is refused", async () => {
  const content = file(3 * CHUNK_BYTES);
  await start(content).done;
  service.now.puts = 0;
  const again = start(content);
  const seen: number[] = [];
  again.on("progress", ({ storedBytes }) => seen.push(storedBytes));
  expect((await again.done).state).toBe("assembled");
  expect(seen).toEqual([content.size]);
  await expect(start(file(3 * CHUNK_BYTES, 7)).done).rejects.toMatchObject({ code: "file_changed" });
  expect(service.now.puts).toBe(0);
});

test("two pages that send the same file both end assembled", async () => {
  const content = file(60 * CHUNK_BYTES);
  const other = createClient({ baseUrl: service.now.url });
  const [one, two] = await Promise.all([start(content).done, start(content, {}, other).done]);
  expect(one.uploadId).toBe(two.uploadId);
  expect(await sameAsStored(content)).toBe(true);
});

test.each([
  ["is sent again", 2, true],
  ["again and again ends the upload", Infinity, false],
])("a chunk that the bucket loses %s", async (_, times, isStored) => {
  const content = file(5 * CHUNK_BYTES);
  let losses = 0;
  service.now.faults.push((request) => {
    const { chunks } = service.now.only ?? { chunks: new Map() };
    if (request.method === "GET" && chunks.size === 5 && losses < times) losses += Number(chunks.delete(4));
    return false;
  });
  const task = start(content);
  if (isStored) await task.done;
  else await expect(task.done).rejects.toMatchObject({ code: "unreachable", retryable: true, detail: expect.stringContaining("loses chunks") });
  expect(losses).toBe(isStored ? 2 : 3);
  expect(service.now.only.state).toBe(isStored ? "assembled" : "open");
});

test("a chunk that is missing when it is put together is sent again", async () => {
  const content = file(5 * CHUNK_BYTES);
  service.now.fault(/assemble$/, 1, (_, response) => {
    service.now.only.chunks.delete(2);
    refuse(response, 409, "chunks_missing", { missing: [2] });
  });
  await start(content).done;
  expect(await sameAsStored(content)).toBe(true);
});

test("a signal that came before ends the task before it asks anything", async () => {
  const task = start(file(10), { signal: AbortSignal.abort() });
  await expect(task.done).rejects.toMatchObject({ code: "cancelled" });
  expect(task.state).toBe("aborted");
  expect(service.now.calls).toEqual([]);
});

test("a failure that nobody waits for is no unhandled rejection, and is kept", async () => {
  const unhandled = vi.fn();
  process.on("unhandledRejection", unhandled);
  onTestFinished(() => void process.off("unhandledRejection", unhandled));
  service.now.fault(/^POST/, 1, (_, response) => refuse(response, 422, "invalid_field"));
  const task = start(file(10));
  await until(() => task.state === "failed");
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(task.error).toMatchObject({ code: "invalid_field", status: 422 });
  expect(unhandled).not.toHaveBeenCalled();
});

test("the record of the upload and its columns are told as soon as they are known", async () => {
  const task = start(file(3 * CHUNK_BYTES));
  const told: string[] = [];
  task.on("upload", ({ uploadId, state }) => told.push(`${uploadId} ${state}`));
  task.on("table", ({ columns }) => told.push(columns[0]!.name));
  await task.done;
  expect(told).toEqual(["u-0 open", "x", "u-0 assembled"]);
  expect(task.upload).toMatchObject({ state: "assembled" });
});

test("the type, the name and the wish for a chunk's size are the caller's", async () => {
  let wish: unknown;
  const seen = createClient(
    { baseUrl: service.now.url },
    { fetch: (url, init) => (String(url).endsWith("/uploads") && (wish = JSON.parse(String(init?.body))), fetch(url, init)) },
  );
  await start(file(3), { fileName: "other.tsv", contentType: "text/tab-separated-values", chunkSize: 1 << 20 }, seen).done;
  expect(wish).toMatchObject({ fileName: "other.tsv", contentType: "text/tab-separated-values", chunkSize: 1 << 20 });
  await start(file(3), {}, seen).done;
  expect(wish).toMatchObject({ fileName: "data.csv", contentType: "text/csv" });
});

test("each chunk is read for its checksum once, and not far ahead of what is sent", async () => {
  const content = file(100 * CHUNK_BYTES);
  const slice = vi.spyOn(content, "slice");
  service.now.concurrency = 2;
  service.now.fault(/^PUT/, 2, () => undefined);
  const task = start(content);
  await until(() => service.now.mostAtOnce === 2);
  await new Promise((resolve) => setTimeout(resolve, 100));
  // Two are sent; for each of them four wait, and as many may be at the service for their signatures.
  expect(new Set(slice.mock.calls.map(([from]) => from)).size).toBeLessThanOrEqual(18);
  task.pause();
  task.resume();
  await task.done;
  // Once to sum it and once to send it; the two that hung were sent again.
  expect(slice).toHaveBeenCalledTimes(202);
});

test("no more than 128 chunks are signed in one call, and a chunk without signature is not waited for", async () => {
  const signed: number[] = [];
  const counting: typeof fetch = async (url, init) => {
    if (String(url).endsWith("/chunks")) {
      signed.push((JSON.parse(String(init!.body)) as { chunks: [] }).chunks.length);
      // Meanwhile the others are summed.
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    return fetch(url, init);
  };
  service.now.concurrency = 64;
  await start(file(300 * CHUNK_BYTES), { mostConcurrency: 64 }, createClient({ baseUrl: service.now.url }, { fetch: counting })).done;
  expect(Math.max(...signed)).toBe(128);
  service.now.fault(/chunks$/, 1, (_, response) => answer(response, 200, { chunks: [] }));
  await expect(start(new File(["x"], "other.csv")).done).rejects.toMatchObject({ code: "unexpected_answer", detail: "The server did not sign every chunk it was asked for." });
});

test("a declared sha256 is computed on request and sent with the wish", async () => {
  const content = file(2 * CHUNK_BYTES);
  await start(content, { sha256: true }).done;
  const sum = createHash("sha256").update(new Uint8Array(await content.arrayBuffer())).digest("hex");
  expect(service.now.only.sha256).toBe(sum);
});

test("a refused quota is shown before a byte is sent", async () => {
  const large = { size: 2 * 10 ** 9, type: "", slice: () => new Blob([]), name: "large.csv" } as unknown as File;
  await expect(start(large).done).rejects.toMatchObject({ code: "storage_limit_reached", status: 403, requestId: "r-1" });
  expect(service.now.puts).toBe(0);
});

test("more than 5 TiB is refused without a request, naming the limit", async () => {
  const huge = { size: 5 * 2 ** 40 + 1, type: "", slice: () => new Blob([]), name: "huge.csv" } as unknown as File;
  await expect(start(huge).done).rejects.toMatchObject({ code: "too_large", details: { limit: 5 * 2 ** 40 }, detail: expect.stringContaining("5 TiB") });
  expect(service.now.calls).toEqual([]);
  const largest = { size: 5 * 2 ** 40, type: "", slice: () => new Blob([]), name: "large.csv" } as unknown as File;
  await expect(start(largest).done).rejects.toMatchObject({ code: "storage_limit_reached" });
});

test("a file that changes while it is sent ends the upload", async () => {
  const content = file(6 * CHUNK_BYTES);
  const changing = { name: "data.csv", size: content.size, type: "", slice } as File;
  let reads = 0;
  function slice(from: number, to = content.size): Blob {
    // What is read for the checksum is another content than what is sent.
    const isOther = from === 2 * CHUNK_BYTES && (reads += 1) > 1;
    return isOther ? new Blob([new Uint8Array(to - from).fill(reads)]) : content.slice(from, to);
  }
  await expect(start(changing).done).rejects.toMatchObject({ code: "file_changed" });
});

test("a token that the service refuses is asked for again, and the upload goes on", async () => {
  let token = "old";
  const refused: (string | undefined)[] = [];
  const signedIn = createClient({ baseUrl: service.now.url }, { getToken: (old) => (refused.push(old), old ? (token = "new") : token) });
  service.now.faults.push((request, response) => {
    if (request.method === "PUT" || request.headers.authorization === "Bearer new" || service.now.calls.length < 3) return false;
    request.resume();
    refuse(response, 401, "unauthenticated");
    return true;
  });
  const content = file(10 * CHUNK_BYTES);
  await start(content, {}, signedIn).done;
  expect(refused).toContain("old");
  expect(await sameAsStored(content)).toBe(true);
});

test("without anybody who could sign in again the upload fails, and what is stored stays", async () => {
  let isExpired = true;
  const signedIn = createClient({ baseUrl: service.now.url }, { getToken: (refused) => (refused ? null : "old") });
  service.now.faults.push((request, response) => {
    if (!isExpired || !/assemble$/.test(request.url!)) return false;
    refuse(response, 401, "unauthenticated");
    return true;
  });
  const content = file(3 * CHUNK_BYTES);
  await expect(start(content, {}, signedIn).done).rejects.toMatchObject({ code: "unauthenticated", status: 401 });
  isExpired = false;
  service.now.puts = 0;
  await start(content, {}, signedIn).done;
  expect(service.now.puts).toBe(0);
});

test("who has to sign in again is told, and the upload waits and goes on", async () => {
  let token = "old";
  const signedIn = createClient({ baseUrl: service.now.url }, { getToken: (refused) => (refused ? null : token) });
  service.now.faults.push((request, response) => {
    if (request.method === "PUT" || request.headers.authorization === "Bearer new" || service.now.calls.length < 3) return false;
    request.resume();
    refuse(response, 401, "unauthenticated");
    return true;
  });
  const content = file(10 * CHUNK_BYTES);
  const task = start(content, {}, signedIn);
  const told = vi.fn();
  task.on("unauthenticated", told);
  await until(() => told.mock.calls.length > 0);
  expect(task.state).toBe("paused");
  token = "new";
  task.resume();
  await task.done;
  expect(await sameAsStored(content)).toBe(true);
});

test("cancelled while somebody is to sign in again, it ends at once", async () => {
  const signedIn = createClient({ baseUrl: service.now.url }, { getToken: (refused) => (refused ? new Promise(() => undefined) : "old") });
  service.now.fault(/^POST/, -1, (_, response) => refuse(response, 401, "unauthenticated"));
  const task = start(file(10), {}, signedIn);
  await until(() => service.now.calls.length > 0);
  await task.cancel();
  await expect(task.done).rejects.toMatchObject({ code: "cancelled" });
});

test("a function without an address in the map ends the upload with its name", async () => {
  const { url } = service.now;
  const spread = createClient({ urls: { "create-upload": `${url}/api/training` } });
  await expect(start(file(10), {}, spread).done).rejects.toMatchObject({ code: "unreachable", retryable: false, detail: expect.stringContaining("sign-chunks") });
});

test("a browser that says it is offline is believed at once, and when it says that it is back", async () => {
  const browser = new EventTarget();
  const navigator = { onLine: true };
  vi.stubGlobal("navigator", navigator);
  vi.stubGlobal("addEventListener", browser.addEventListener.bind(browser));
  vi.stubGlobal("removeEventListener", browser.removeEventListener.bind(browser));
  onTestFinished(() => void vi.unstubAllGlobals());
  const content = file(40 * CHUNK_BYTES);
  const task = start(content);
  await until(() => task.progress.chunks.stored >= 5);
  navigator.onLine = false;
  browser.dispatchEvent(new Event("offline"));
  expect(task.state).toBe("offline");
  // What was in flight is stored; nothing more is begun.
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(task.state).toBe("offline");
  expect(task.progress.chunks.stored).toBeLessThan(40);
  navigator.onLine = true;
  browser.dispatchEvent(new Event("online"));
  await task.done;
  expect(await sameAsStored(content)).toBe(true);
});

test("without a network the task says so, waits, and goes on by itself", async () => {
  let isCut = false;
  service.now.faults.push((request) => {
    if (isCut) request.socket.destroy();
    return isCut;
  });
  const content = file(40 * CHUNK_BYTES);
  const task = start(content);
  const states = statesOf(task);
  await until(() => task.progress.chunks.stored >= 5);
  isCut = true;
  await until(() => task.state === "offline");
  isCut = false;
  await task.done;
  expect(states).toContain("offline");
  expect(await sameAsStored(content)).toBe(true);
});

test("while another call assembles, the task asks again as late as it is told to", async () => {
  const waits = ["0", "1"];
  service.now.fault(/assemble$/, 2, (_, response) => {
    response.setHeader("Retry-After", waits.shift()!);
    answer(response, 202, { state: "assembling" });
  });
  const begun = performance.now();
  expect((await start(file(10)).done).state).toBe("assembled");
  expect(performance.now() - begun).toBeGreaterThanOrEqual(990);
});

test("while the service reads the joined file, the task tells how far it is", { timeout: 30_000 }, async () => {
  service.now.verifiedBytes = [400, 400, 900];
  let failures = 1;
  service.now.faults.push((request, response) => {
    if (request.method !== "GET" || service.now.only.state !== "assembling" || failures === 0) return false;
    failures -= 1;
    refuse(response, 404, "upload_not_found");
    return true;
  });
  const task = start(file(2 * CHUNK_BYTES));
  const told: (number | null)[] = [];
  task.on("progress", ({ verifiedBytes }) => told.push(verifiedBytes));
  expect((await task.done).state).toBe("assembled");
  expect(told.filter((bytes) => bytes !== null)).toEqual([400, 900]);
  expect(task.progress.verifiedBytes).toBe(null);
});

test("once it is put together, nobody asks how far it is", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const { uploadId } = await start(file(10)).done;
  const { length } = service.now.calls;
  await vi.advanceTimersByTimeAsync(10_000);
  await client.uploads.get(uploadId);
  expect(service.now.calls).toHaveLength(length + 1);
});

test("an upload that was aborted elsewhere ends with that reason", async () => {
  const page = new AbortController();
  const task = start(file(20 * CHUNK_BYTES), { signal: page.signal });
  await until(() => task.progress.chunks.stored >= 2);
  page.abort();
  await client.uploads.abort(task.uploadId!);
  await expect(start(file(20 * CHUNK_BYTES), { uploadId: task.uploadId! }).done).rejects.toMatchObject({ code: "upload_ended" });
});

test.each(["a b.csv", "50%2F50.csv", "\u{1f642}.csv", `quote"'.csv`, "x".repeat(255)])("the name %j is sent as it is", async (name) => {
  await start(new File(["x"], name)).done;
  expect(service.now.only.fileName).toBe(name);
});
