import { expect, test } from "vitest";
import { ChunkPlan } from "../src/uploads/plan.js";

test.each([
  [9, 3, 3],
  [10, 3, 4],
  [0, 3, 0],
])("%i bytes in chunks of %i are %i chunks, which cover them", (size, chunkSize, totalChunks) => {
  const plan = new ChunkPlan({ size, chunkSize, totalChunks });
  const lengths = Array.from({ length: totalChunks }, (_, index) => plan.bytes(index));
  expect(lengths.reduce((sum, bytes) => sum + bytes, 0)).toBe(size);
});

test.each([
  [10, 3, 3],
  [10, 3, 5],
  [10, 0, 1],
  [0, 3, 1],
])("a server that plans %i bytes in chunks of %i as %i chunks is not believed", (size, chunkSize, totalChunks) => {
  expect(() => new ChunkPlan({ size, chunkSize, totalChunks })).toThrow(expect.objectContaining({ code: "unexpected_answer" }));
});
