/** Files are read in order out of one stream, and by slices where a browser's files are no byte streams. */
import { expect, test, vi } from "vitest";
import { Reading } from "../src/uploads/reading.js";

const content = Uint8Array.from({ length: 1000 }, (_, at) => (at * 7) & 0xff);

/** A file that counts the streams that are opened of it, and where. */
function counted(): { file: Blob; opened: number[] } {
  const file = new Blob([content]);
  const opened: number[] = [];
  const slice = file.slice.bind(file);
  file.slice = (from = 0, to = file.size) => {
    const part = slice(from, to);
    const stream = part.stream.bind(part);
    part.stream = () => {
      opened.push(from);
      return stream();
    };
    return part;
  };
  return { file, opened };
}

async function read(reading: Reading, from: number, to: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of reading.pieces(from, to)) pieces.push(piece.slice());
  return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
}

test("ranges that follow each other come out of one stream", async () => {
  const { file, opened } = counted();
  const reading = new Reading(file, 64);
  for (const [from, to] of [[0, 300], [300, 301], [301, 800], [800, 1000]] as const) {
    expect(await read(reading, from, to)).toEqual(content.subarray(from, to));
  }
  expect(opened).toEqual([0]);
});

test.each([
  ["before", 100],
  ["behind", 500],
])("a range that begins %s where the stream is, is read from where it begins", async (_, from) => {
  const { file, opened } = counted();
  const reading = new Reading(file, 64);
  await read(reading, 0, 300);
  const cancel = vi.spyOn(ReadableStreamBYOBReader.prototype, "cancel");
  expect(await read(reading, from, 600)).toEqual(content.subarray(from, 600));
  expect(opened).toEqual([0, from]);
  expect(cancel).toHaveBeenCalledOnce();
  cancel.mockRestore();
});

test("pieces are as large as the memory for them at most, and no byte of the next range is among them", async () => {
  const reading = new Reading(new Blob([content]), 64);
  const lengths: number[] = [];
  for await (const piece of reading.pieces(0, 150)) lengths.push(piece.length);
  expect(lengths).toEqual([64, 64, 22]);
});

test("a small file takes no more memory than it has bytes", async () => {
  const { value } = await new Reading(new Blob([content])).pieces(0, 10).next();
  expect(value.buffer.byteLength).toBe(content.length);
});

test("an empty file has no pieces", async () => {
  expect(await read(new Reading(new Blob([])), 0, 0)).toHaveLength(0);
});

test("a file may be read again after its end", async () => {
  const { file, opened } = counted();
  const reading = new Reading(file);
  expect(await read(reading, 0, 1000)).toEqual(content);
  expect(await read(reading, 0, 1000)).toEqual(content);
  expect(opened).toEqual([0, 0]);
});

test("a stream is given back at the end of the file, where it fails, and where nobody wants the rest", async () => {
  const file = new Blob([content]);
  const cancel = vi.spyOn(ReadableStreamBYOBReader.prototype, "cancel");
  const reading = new Reading(file, 64);
  await read(reading, 0, 900);
  expect(cancel).not.toHaveBeenCalled();
  await read(reading, 900, 1000);
  expect(cancel).toHaveBeenCalledTimes(1);
  for await (const _ of reading.pieces(0, 1000)) break;
  expect(cancel).toHaveBeenCalledTimes(2);
  await expect(read(reading, 0, 1001)).rejects.toThrow("ends before byte 1001");
  expect(cancel).toHaveBeenCalledTimes(3);
  cancel.mockRestore();
});

test("after a failure the file is opened again, and not the failed stream asked once more", async () => {
  const { file, opened } = counted();
  const reading = new Reading(file, 64);
  await read(reading, 0, 128);
  const failing = vi.spyOn(ReadableStreamBYOBReader.prototype, "read").mockRejectedValueOnce(new DOMException("gone", "NotReadableError"));
  await expect(read(reading, 128, 256)).rejects.toThrow("gone");
  failing.mockRestore();
  expect(await read(reading, 128, 256)).toEqual(content.subarray(128, 256));
  expect(opened).toEqual([0, 128]);
});

test("after a stream has failed in the middle of a read, which keeps the memory, the file can be read again", async () => {
  const file = new Blob([content]);
  const failing = new ReadableStream({ type: "bytes", pull: (controller) => controller.error(new DOMException("gone", "NotReadableError")) });
  vi.spyOn(Blob.prototype, "stream").mockReturnValueOnce(failing as ReturnType<Blob["stream"]>);
  const reading = new Reading(file, 64);
  await expect(read(reading, 0, 300)).rejects.toThrow("gone");
  expect(await read(reading, 0, 300)).toEqual(content.subarray(0, 300));
  expect(await read(reading, 300, 1000)).toEqual(content.subarray(300));
  vi.restoreAllMocks();
});

test("where files are no byte streams they are read by slices", async () => {
  const { file } = counted();
  const getReader = vi.spyOn(ReadableStream.prototype, "getReader").mockImplementation(() => {
    throw new TypeError("no byte stream");
  });
  const reading = new Reading(file, 64);
  const [first, second] = [await read(reading, 0, 300), await read(reading, 300, 1000)];
  expect(first).toEqual(content.subarray(0, 300));
  expect(second).toEqual(content.subarray(300));
  await expect(read(reading, 900, 1001)).rejects.toThrow("ends before byte 1001");
  getReader.mockRestore();
});
