/** The worker's own code, run here: what it answers, and how it reads when several files are summed in turns. */
import { createHash } from "node:crypto";
import { beforeAll, beforeEach, expect, test, vi } from "vitest";
import { extend, textOf } from "../src/uploads/crc32c.js";
import type { HashAnswer, HashQuestion } from "../src/uploads/hashing.js";

const CHUNK_BYTES = 50;
const N_CHUNKS = 4;
const answers: HashAnswer[] = [];
let lastId = 0;
let lastSource = 0;

beforeAll(async () => {
  vi.stubGlobal("postMessage", (answer: HashAnswer) => answers.push(answer));
  await import("../src/uploads/hash-worker.js");
});
beforeEach(() => void (answers.length = 0));

interface Source {
  source: number;
  file: Blob;
  content: Uint8Array<ArrayBuffer>;
}

function sourceOf(nth: number): Source {
  const content = Uint8Array.from({ length: N_CHUNKS * CHUNK_BYTES }, (_, at) => (at * 3 + nth * 50) & 0xff);
  return { source: (lastSource += 1), file: new Blob([content]), content };
}

async function ask(kind: HashQuestion["kind"], { source, file }: Source, from: number, to: number): Promise<string> {
  const id = (lastId += 1);
  // As a worker gets it: a copy of what stands for the file.
  const question: HashQuestion = { id, kind, source, file: file.slice(), from, to };
  (globalThis.onmessage as (event: { data: HashQuestion }) => void)({ data: question });
  return vi.waitFor(() => {
    const answer = answers.find((one) => one.id === id);
    if (!answer) throw new Error("no answer yet");
    return "text" in answer ? answer.text : `failed: ${answer.error}`;
  });
}

async function chunkOf(of: Source, nth: number): Promise<[string, string]> {
  const [from, to] = [nth * CHUNK_BYTES, (nth + 1) * CHUNK_BYTES];
  return [await ask("crc32c", of, from, to), textOf(extend(0, of.content.subarray(from, to)))];
}

test.each([
  [1, 1],
  [4, 4],
  // More than are kept open: each is opened again for each chunk.
  [5, 5 * N_CHUNKS],
])("chunks of %i files in turns have the right sums, out of %i streams", async (nFiles, nStreams) => {
  const opened = vi.spyOn(Blob.prototype, "stream");
  const closed = vi.spyOn(ReadableStreamBYOBReader.prototype, "cancel");
  const files = Array.from({ length: nFiles }, (_, nth) => sourceOf(nth));
  for (let nth = 0; nth < N_CHUNKS; nth += 1) {
    for (const file of files) {
      const [sum, expected] = await chunkOf(file, nth);
      expect(sum).toBe(expected);
    }
  }
  expect(opened).toHaveBeenCalledTimes(nStreams);
  expect(closed).toHaveBeenCalledTimes(nStreams);
  opened.mockRestore();
  closed.mockRestore();
});

test("the sha256 is that of the whole file, also when its first chunk was read before", async () => {
  const file = sourceOf(7);
  await chunkOf(file, 0);
  const expected = createHash("sha256").update(file.content).digest("hex");
  expect(await ask("sha256", file, 0, file.file.size)).toBe(expected);
});

test("a file that cannot be read says why, and the next question is answered", async () => {
  const file = sourceOf(0);
  expect(await ask("crc32c", file, 0, file.file.size + 1)).toMatch(/^failed: it ends before byte 201/);
  const [sum, expected] = await chunkOf(file, 1);
  expect(sum).toBe(expected);
});

test("questions that come at once are answered one after the other, in their order", async () => {
  const files = [sourceOf(1), sourceOf(2)];
  const sums = [0, 1, 2, 3].flatMap((nth) => files.map((file) => chunkOf(file, nth)));
  for (const [sum, expected] of await Promise.all(sums)) expect(sum).toBe(expected);
  const ids = answers.map(({ id }) => id);
  expect(ids).toEqual(ids.toSorted((one, other) => one - other));
});
