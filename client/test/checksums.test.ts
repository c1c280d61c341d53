import { expect, test, vi } from "vitest";
import { extend, textOf } from "../src/uploads/crc32c.js";
import { crc32cOf } from "../src/uploads/hashing.js";
import { Reading } from "../src/uploads/reading.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test.each([
  // RFC 3720, appendix B.4
  ["32 bytes of zeros", new Uint8Array(32), 0x8a9136aa],
  ["32 bytes of ones", new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ["32 incrementing bytes", Uint8Array.from({ length: 32 }, (_, at) => at), 0x46dd794e],
  // the check value of the catalogue of parametrised CRC algorithms
  ["the check text", bytes("123456789"), 0xe3069283],
  ["nothing", new Uint8Array(0), 0],
])("the checksum of %s is the published one", (_, content, sum) => {
  expect(extend(0, content)).toBe(sum);
});

test("a sum does not depend on how the bytes are cut or where they lie in memory", () => {
  const memory = Uint8Array.from({ length: 1000 }, (_, at) => (at * 31) & 0xff);
  for (let from = 0; from < 8; from += 1) {
    const content = memory.subarray(from, 900 + from);
    const whole = extend(0, content);
    for (const cut of [0, 1, 7, 8, 9, 450, 899]) {
      expect(extend(extend(0, content.subarray(0, cut)), content.subarray(cut))).toBe(whole);
    }
    expect(extend(0, Uint8Array.from(content))).toBe(whole);
  }
});

test("a sum is written as the bucket writes it", () => {
  expect(textOf(0xe3069283)).toBe("4waSgw==");
  expect(textOf(0)).toBe("AAAAAA==");
});

test("pieces are summed to the same as the whole", async () => {
  const content = Uint8Array.from({ length: (1 << 20) * 2 + 5 }, (_, at) => (at >>> 3) & 0xff);
  expect(await crc32cOf(new Reading(new Blob([content]), 1000).pieces(0, content.length))).toBe(textOf(extend(0, content)));
  expect(await crc32cOf(new Reading(new Blob([])).pieces(0, 0))).toBe("AAAAAA==");
});

test.each([65_535, 65_536, 200_003])("%i bytes are summed the same way by WebAssembly and without", async (length) => {
  const memory = Uint8Array.from({ length: length + 8 }, (_, at) => Math.imul(at, 0x9e3779b1) >>> 13);
  const compiled = vi.spyOn(WebAssembly, "Module");
  vi.resetModules();
  const { extend: byProgram } = await import("../src/uploads/crc32c.js");
  const sums = Array.from({ length: 8 }, (_, from) => byProgram(0x12345678, memory.subarray(from, from + length)));
  expect(compiled).toHaveBeenCalledOnce();

  // What a content security policy without `wasm-unsafe-eval` does.
  compiled.mockImplementation(function () {
    throw new WebAssembly.CompileError("forbidden");
  });
  vi.resetModules();
  const { extend: byTables } = await import("../src/uploads/crc32c.js");
  expect(Array.from({ length: 8 }, (_, from) => byTables(0x12345678, memory.subarray(from, from + length)))).toEqual(sums);
  expect(compiled).toHaveBeenCalledTimes(2);
  compiled.mockRestore();
});
