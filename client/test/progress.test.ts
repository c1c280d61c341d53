/** What a task says of how far it is, where a browser tells how many bytes have left. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { createClient, type Client, type TaskProgress, type UploadTask } from "../src/index.js";
import { Rate } from "../src/uploads/rate.js";
import { BACKOFF } from "../src/waiting.js";
import { CHUNK_BYTES, Service, refuseXml } from "./service.js";
import { begin, file, until } from "./uploading.js";
import { Xhr } from "./xhr.js";

let service: Service;
let client: Client;

beforeEach(async () => {
  service = new Service();
  await service.start();
  client = createClient({ baseUrl: service.url });
  Object.assign(BACKOFF, { firstMs: 5, mostMs: 20 });
  Xhr.made = [];
  vi.stubGlobal("XMLHttpRequest", Xhr);
});
afterEach(async () => {
  vi.unstubAllGlobals();
  await service.stop();
});

const hang = (): void => undefined;
const HALF = CHUNK_BYTES / 2;

function progressOf(task: UploadTask): TaskProgress[] {
  const seen: TaskProgress[] = [];
  task.on("progress", (progress) => seen.push(progress));
  return seen;
}

test("bytes on their way are sent and not stored, and never more than the file has", async () => {
  const content = file(20 * CHUNK_BYTES + 1);
  service.fault(/^PUT .*\/3\?/, 1, hang);
  const task = begin(client, content);
  const seen = progressOf(task);
  await until(() => task.progress.chunks.stored === 20);
  expect(task.progress).toMatchObject({ storedBytes: 19 * CHUNK_BYTES + 1, sentBytes: 19 * CHUNK_BYTES + 1 + HALF, chunks: { stored: 20, total: 21 } });
  task.pause();
  expect(task.progress).toMatchObject({ sentBytes: 19 * CHUNK_BYTES + 1 });
  task.resume();
  await task.done;
  for (const { sentBytes, storedBytes, totalBytes } of seen) {
    expect(storedBytes).toBeLessThanOrEqual(sentBytes);
    expect(sentBytes).toBeLessThanOrEqual(totalBytes);
  }
  expect(task.progress).toMatchObject({ sentBytes: content.size, storedBytes: content.size, chunks: { stored: 21, total: 21 } });
});

test.each(["refused", "broken off"])("what a request had sent that was %s is taken back", async (how) => {
  Object.assign(BACKOFF, { firstMs: 60_000, mostMs: 60_000 });
  let spoil!: () => void;
  service.fault(/^PUT/, 1, (request, response) => {
    spoil = () => (how === "refused" ? refuseXml(response, 500, "InternalError") : void request.socket.destroy());
  });
  const task = begin(client, file(CHUNK_BYTES));
  await until(() => spoil !== undefined);
  expect(task.progress.sentBytes).toBe(HALF);
  spoil();
  await until(() => task.progress.sentBytes === 0);
  expect(task.state).toBe("uploading");
  await task.cancel();
});

test("it is at its end only when the file is stored: one that is not confirmed is not counted", async () => {
  service.fault(/^PUT/, 1, hang);
  const task = begin(client, file(CHUNK_BYTES));
  await until(() => task.progress.sentBytes === HALF);
  expect(task.progress.storedBytes).toBe(0);
  await task.cancel();
});

test("a chunk that the bucket lost is no longer counted", async () => {
  let isLost = false;
  service.faults.push((request) => {
    if (isLost || !request.url!.endsWith("/assemble")) return false;
    // Nothing has asked for it again by now.
    service.fault(/^PUT .*\/4\?/, 1, hang);
    isLost = service.only.chunks.delete(4);
    return false;
  });
  const task = begin(client, file(5 * CHUNK_BYTES));
  await until(() => service.calls.filter((line) => /^PUT .*\/4\?/.test(line)).length === 2);
  expect(task.progress).toMatchObject({ storedBytes: 4 * CHUNK_BYTES, chunks: { stored: 4 } });
  task.pause();
  task.resume();
  await task.done;
  expect(task.progress).toMatchObject({ storedBytes: 5 * CHUNK_BYTES, chunks: { stored: 5 } });
});

test("there is a pace and a time left while it sends, and none while it is paused", async () => {
  const { now } = Date;
  let ahead = 0;
  const spy = vi.spyOn(Date, "now").mockImplementation(() => now() + ahead);
  onTestFinished(() => spy.mockRestore());
  service.faults.push((request) => {
    if (request.method === "PUT") ahead += 1000;
    return false;
  });
  service.fault(/^PUT .*\/9\?/, 1, hang);
  const task = begin(client, file(10 * CHUNK_BYTES), { mostConcurrency: 1 });
  await until(() => task.progress.chunks.stored === 9 && task.progress.sentBytes > 9 * CHUNK_BYTES);
  const { bytesPerSecond, remainingSeconds } = task.progress;
  // A chunk a second, and half of one is left; the machine may add to the seconds.
  expect(bytesPerSecond).toBeGreaterThan(100);
  expect(bytesPerSecond).toBeLessThan(1200);
  expect(remainingSeconds).toBeCloseTo(HALF / bytesPerSecond!, 6);
  task.pause();
  expect(task.progress).toMatchObject({ bytesPerSecond: null, remainingSeconds: null });
  task.resume();
  expect(task.progress.bytesPerSecond).toBeNull();
  const whileAssembled: unknown[] = [];
  task.on("state", (state) => state === "assembling" && whileAssembled.push(task.progress.bytesPerSecond));
  await task.done;
  expect(whileAssembled).toEqual([null]);
});

test("a listener is told no more often than it can draw, and of the end in any case", async () => {
  const { now } = Date;
  const spy = vi.spyOn(Date, "now").mockReturnValue(now());
  onTestFinished(() => spy.mockRestore());
  const task = begin(client, file(60 * CHUNK_BYTES));
  const seen = progressOf(task);
  const off = vi.fn();
  task.on("progress", off)();
  await task.done;
  expect(seen.length).toBeLessThan(20);
  expect(seen.at(-1)).toMatchObject({ storedBytes: 60 * CHUNK_BYTES });
  expect(off).not.toHaveBeenCalled();
});

test("within 100 ms a listener is told once, and then of the newest", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  onTestFinished(() => void vi.useRealTimers());
  service.fault(/^PUT/, 1, hang);
  const task = begin(client, file(CHUNK_BYTES));
  while (service.mostAtOnce === 0) await new Promise((resolve) => setImmediate(resolve));
  await vi.advanceTimersByTimeAsync(1000);
  const seen = progressOf(task);
  for (const loaded of [600, 700, 800]) Xhr.made[0]!.upload.onprogress!({ loaded });
  await vi.advanceTimersByTimeAsync(99);
  expect(seen.map(({ sentBytes }) => sentBytes)).toEqual([600]);
  await vi.advanceTimersByTimeAsync(1);
  expect(seen.map(({ sentBytes }) => sentBytes)).toEqual([600, 800]);
  await task.cancel();
});

describe("a pace", () => {
  test("is taken over the last seconds", () => {
    const rate = new Rate();
    for (let second = 0; second <= 60; second += 1) rate.note(second <= 30 ? second * 1000 : 30_000 + (second - 30) * 5000, second * 1000);
    expect(rate.bytesPerSecond).toBe(5000);
  });

  test("is not known from nothing, from a moment, or over a break", () => {
    const rate = new Rate();
    expect(rate.bytesPerSecond).toBeNull();
    rate.note(0, 0);
    rate.note(100, 400);
    expect(rate.bytesPerSecond).toBeNull();
    rate.note(150, 500);
    expect(rate.bytesPerSecond).toBe(300);
    rate.restart();
    rate.note(200, 60_000);
    expect(rate.bytesPerSecond).toBeNull();
  });

  test("is never below nothing: a chunk that is sent again begins it anew", () => {
    const rate = new Rate();
    rate.note(0, 0);
    rate.note(1000, 1000);
    rate.note(500, 2000);
    rate.note(1500, 3000);
    expect(rate.bytesPerSecond).toBe(1000);
  });
});

describe("a request of a browser", () => {
  test("sends the signed headers, and reads Retry-After only where it may", async () => {
    service.fault(/^PUT/, 1, (_, response) => refuseXml(response, 503, "SlowDown", { "Retry-After": "1" }));
    const begun = performance.now();
    await begin(client, file(10)).done;
    expect(performance.now() - begun).toBeGreaterThanOrEqual(990);
    expect(Xhr.made.map(({ asked }) => asked)).toEqual([["Retry-After"], []]);
    // The service refuses bytes that do not come with their checksum.
    expect(service.only.chunks.size).toBe(1);
  });

  test("reads the bucket's code: an expired address is signed again", async () => {
    service.fault(/^PUT/, 1, (_, response) => refuseXml(response, 400, "ExpiredToken"));
    expect((await begin(client, file(10)).done).state).toBe("assembled");
  });

  test("that is silent for a minute is given up and sent again", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    service.fault(/^PUT/, 1, hang);
    const task = begin(client, file(10));
    const real = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    while (service.calls.length < 3) await real();
    await vi.advanceTimersByTimeAsync(59_000);
    expect(task.progress.sentBytes).toBe(5);
    while (task.state !== "assembled") {
      await vi.advanceTimersByTimeAsync(100);
      await real();
    }
    expect(service.calls.filter((line) => line.startsWith("PUT"))).toHaveLength(2);
  });
});
