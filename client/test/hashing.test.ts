/** Where checksums are computed: in a worker where there is one, here where there is none, and what becomes of those that wait. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { extend, textOf } from "../src/uploads/crc32c.js";
import { Hasher, type HashAnswer, type HashQuestion } from "../src/uploads/hashing.js";

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

const file = new Blob(["some bytes"]);
const whole = { file, from: 0, to: file.size };
const sumOfWhole = textOf(extend(0, new TextEncoder().encode("some bytes")));
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
  const sums = [hasher.hash("crc32c", whole, signal), hasher.hash("sha256", whole, signal)];
  const [worker] = ScriptedWorker.made;
  expect(ScriptedWorker.made).toHaveLength(1);
  expect(worker!.url.pathname).toMatch(/\/hash-worker\.js$/);
  expect(worker!.options).toMatchObject({ type: "module" });
  expect(worker!.questions).toMatchObject([{ kind: "crc32c", ...whole }, { kind: "sha256", ...whole }]);
  for (const { id, kind } of worker!.questions.toReversed()) worker!.onmessage({ data: { id, text: `of ${kind}` } });
  expect(await Promise.all(sums)).toEqual(["of crc32c", "of sha256"]);
  hasher.release();
  expect(worker!.isTerminated).toBe(false);
  hasher.release();
  expect(worker!.isTerminated).toBe(true);
});

test("a question says which file it is about, which a worker cannot see otherwise", () => {
  const hasher = new Hasher();
  hasher.retain();
  const other = new Blob(["some bytes"]);
  for (const range of [whole, { file: other, from: 0, to: 4 }, { file, from: 4, to: 10 }]) void hasher.hash("crc32c", range, signal);
  const [first, second, third] = ScriptedWorker.made[0]!.questions.map(({ source }) => source);
  expect(third).toBe(first);
  expect(second).not.toBe(first);
});

test("without a worker, ranges that are asked for at once do not disturb each other", async () => {
  vi.stubGlobal("Worker", undefined);
  const hasher = new Hasher();
  hasher.retain();
  const content = Uint8Array.from({ length: 5 << 20 }, (_, at) => (at >>> 5) & 0xff);
  const large = new Blob([content]);
  const cuts = [0, 3 << 20, 4 << 20, 5 << 20];
  const sums = [0, 1, 2].map((nth) => hasher.hash("crc32c", { file: large, from: cuts[nth]!, to: cuts[nth + 1]! }, signal));
  expect(await Promise.all(sums)).toEqual([0, 1, 2].map((nth) => textOf(extend(0, content.subarray(cuts[nth], cuts[nth + 1])))));
});

test("what a worker cannot read is unreadable", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const sum = hasher.hash("crc32c", whole, signal);
  ScriptedWorker.made[0]!.onmessage({ data: { id: 1, error: "The file is gone." } });
  await expect(sum).rejects.toMatchObject({ code: "file_unreadable", detail: expect.stringContaining("The file is gone.") });
});

test("a worker that cannot be loaded is done without: what waits and what follows is computed here", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const sum = hasher.hash("crc32c", whole, signal);
  const preventDefault = vi.fn();
  ScriptedWorker.made[0]!.onerror({ preventDefault });
  expect(await sum).toBe(sumOfWhole);
  // Otherwise browsers would tell the page's own listeners of errors.
  expect(preventDefault).toHaveBeenCalledOnce();
  expect(ScriptedWorker.made[0]!.isTerminated).toBe(true);
  expect(await hasher.hash("crc32c", whole, signal)).toBe(sumOfWhole);
  expect(ScriptedWorker.made).toHaveLength(1);
});

test.each([
  ["there is no worker", undefined],
  ["a policy forbids them", class { constructor() { throw new DOMException("forbidden", "SecurityError"); } }],
])("where %s, sums are computed here", async (_, worker) => {
  vi.stubGlobal("Worker", worker);
  const hasher = new Hasher();
  hasher.retain();
  expect(await hasher.hash("crc32c", whole, signal)).toBe(sumOfWhole);
});

test("a signal ends the wait at once, and one that came before asks nothing", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const page = new AbortController();
  const sum = hasher.hash("crc32c", whole, page.signal);
  page.abort();
  await expect(sum).rejects.toMatchObject({ code: "cancelled" });
  await expect(hasher.hash("crc32c", whole, page.signal)).rejects.toMatchObject({ code: "cancelled" });
  expect(ScriptedWorker.made[0]!.questions).toHaveLength(1);
});

test("what an ended worker was still asked is not computed for those who use the next one", async () => {
  const hasher = new Hasher();
  hasher.retain();
  const page = new AbortController();
  const left = new Blob(["x"]);
  const read = vi.spyOn(left, "slice");
  const sum = hasher.hash("crc32c", { file: left, from: 0, to: 1 }, page.signal);
  page.abort();
  await expect(sum).rejects.toMatchObject({ code: "cancelled" });
  hasher.release();
  hasher.retain();
  const next = hasher.hash("crc32c", whole, signal);
  ScriptedWorker.made[1]!.onerror({ preventDefault: () => undefined });
  expect(await next).toBe(sumOfWhole);
  expect(read).not.toHaveBeenCalled();
});
