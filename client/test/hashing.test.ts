/** Where checksums are computed: in a worker where there is one, here where there is none, and what becomes of those that wait. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Hasher, crc32cOf, type HashAnswer, type HashQuestion } from "../src/uploads/hashing.js";

/** A worker that answers when it is told to. */
class ScriptedWorker {
  static made: ScriptedWorker[] = [];
  readonly questions: HashQuestion[] = [];
  isTerminated = false;
  onmessage!: (event: { data: HashAnswer }) => void;
  onerror!: (event: { preventDefault(): void }) => void;

  constructor(
    readonly url: URL,
    readonly options: WorkerOptions,
  ) {
    ScriptedWorker.made.push(this);
  }

  postMessage(question: HashQuestion): void {
    this.questions.push(question);
  }

  terminate(): void {
    this.isTerminated = true;
  }
}

const content = new Blob(["some bytes"]);
const { signal } = new AbortController();

beforeEach(() => {
  ScriptedWorker.made = [];
  vi.stubGlobal("Worker", ScriptedWorker);
});
afterEach(() => void vi.unstubAllGlobals());

test("all questions go to one worker, which is the built file, and ends when nobody uses it", async () => {
  const hasher = new Hasher();
  hasher.retain();
  hasher.retain();
  const sums = [hasher.hash("crc32c", content, signal), hasher.hash("sha256", content, signal)];
  const [worker] = ScriptedWorker.made;
  expect(ScriptedWorker.made).toHaveLength(1);
  expect(worker!.url.pathname).toMatch(/\/hash-worker\.js$/);
  expect(worker!.options).toMatchObject({ type: "module" });
  expect(worker!.questions.map(({ kind, blob }) => [kind, blob])).toEqual([["crc32c", content], ["sha256", content]]);
  for (const { id, kind } of worker!.questions.toReversed()) worker!.onmessage({ data: { id, text: `of ${kind}` } });
  expect(await Promise.all(sums)).toEqual(["of crc32c", "of sha256"]);
  hasher.release();
  expect(worker!.isTerminated).toBe(false);
  hasher.release();
  expect(worker!.isTerminated).toBe(true);
});

test("what a worker cannot read is unreadable", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const sum = hasher.hash("crc32c", content, signal);
  ScriptedWorker.made[0]!.onmessage({ data: { id: 1, error: "The file is gone." } });
  await expect(sum).rejects.toMatchObject({ code: "file_unreadable", detail: expect.stringContaining("The file is gone.") });
});

test("a worker that cannot be loaded is done without: what waits and what follows is computed here", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const sum = hasher.hash("crc32c", content, signal);
  const preventDefault = vi.fn();
  ScriptedWorker.made[0]!.onerror({ preventDefault });
  expect(await sum).toBe(await crc32cOf(content));
  // Otherwise browsers would tell the page's own listeners of errors.
  expect(preventDefault).toHaveBeenCalledOnce();
  expect(ScriptedWorker.made[0]!.isTerminated).toBe(true);
  expect(await hasher.hash("crc32c", content, signal)).toBe(await crc32cOf(content));
  expect(ScriptedWorker.made).toHaveLength(1);
});

test.each([
  ["there is no worker", undefined],
  ["a policy forbids them", class { constructor() { throw new DOMException("forbidden", "SecurityError"); } }],
])("where %s, sums are computed here", async (_, worker) => {
  vi.stubGlobal("Worker", worker);
  const hasher = new Hasher();
  hasher.retain();
  expect(await hasher.hash("crc32c", content, signal)).toBe(await crc32cOf(content));
});

test("a signal ends the wait at once, and one that came before asks nothing", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const page = new AbortController();
  const sum = hasher.hash("crc32c", content, page.signal);
  page.abort();
  await expect(sum).rejects.toMatchObject({ code: "cancelled" });
  await expect(hasher.hash("crc32c", content, page.signal)).rejects.toMatchObject({ code: "cancelled" });
  expect(ScriptedWorker.made[0]!.questions).toHaveLength(1);
});

test("what an ended worker was still asked is not computed for those who use the next one", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const page = new AbortController();
  const arrayBuffer = vi.fn(() => Promise.resolve(new ArrayBuffer(1)));
  const left = Object.assign(new Blob(["x"]), { slice: () => ({ arrayBuffer }) as unknown as Blob });
  const sum = hasher.hash("crc32c", left, page.signal);
  page.abort();
  await expect(sum).rejects.toMatchObject({ code: "cancelled" });
  hasher.release();
  hasher.retain();
  const next = hasher.hash("crc32c", content, signal);
  ScriptedWorker.made[1]!.onerror({ preventDefault: () => undefined });
  expect(await next).toBe(await crc32cOf(content));
  expect(arrayBuffer).not.toHaveBeenCalled();
});
