/**
 * CRC-32C (Castagnoli), the polynomial that Cloud Storage computes for every object: eight bytes a step.
 *
 * Source: RFC 3720, appendix B.4 (polynomial and test values); "slicing by 8" as M. Kounavis and F. Berry describe it (2005).
 * Where WebAssembly may run (a content security policy has to allow `wasm-unsafe-eval`), two halves of a block are summed in
 * turns, so that a processor need not wait for one table to look up the next; more than two gain nothing.
 */

import { programOf } from "./crc32c-program.js";

const POLYNOMIAL = 0x82f63b78; // 0x1edc6f41, bits reversed
const N_TABLES = 8;
/** Half of a block, a power of two; both halves and the tables stay in a processor's nearest caches. */
const HALF_BYTES = 16384;
const BLOCK_BYTES = 2 * HALF_BYTES;
const PAGE_BYTES = 65536;

const TABLES = buildTables();
/** What each single bit of a sum becomes after as many zeros as a half is long: sums are linear in their bits. */
const BITS_LATER = bitsAfterZeros(HALF_BYTES);

type SumBlock = (sum: number, block: Uint8Array) => number;
// Made when it is first needed; null where it may not run.
let sumBlock: SumBlock | null | undefined;

/**
 * Return the checksum of what was summed before, followed by `bytes`.
 *
 * @param crc - of what comes before; 0 for nothing
 */
export function extend(crc: number, bytes: Uint8Array): number {
  let sum = ~crc;
  let at = 0;
  if (bytes.length >= BLOCK_BYTES) {
    sumBlock = sumBlock === undefined ? compiled() : sumBlock;
    if (sumBlock) for (; bytes.length - at >= BLOCK_BYTES; at += BLOCK_BYTES) sum = sumBlock(sum, bytes.subarray(at, at + BLOCK_BYTES));
  }
  return ~sumByTables(sum, bytes.subarray(at)) >>> 0;
}

/** Write a checksum as Cloud Storage does: base64 of the big-endian bytes. */
export function textOf(crc: number): string {
  return btoa(String.fromCharCode(crc >>> 24, (crc >>> 16) & 0xff, (crc >>> 8) & 0xff, crc & 0xff));
}

function sumByTables(sum: number, bytes: Uint8Array): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  let at = 0;
  const { length } = bytes;
  // Words can be read where they are aligned; they are little-endian, as on every processor that runs a browser.
  const aligned = Math.min(length, -bytes.byteOffset & 3);
  for (; at < aligned; at += 1) sum = (sum >>> 8) ^ t0[(sum ^ bytes[at]!) & 0xff]!;
  const pairs = (length - at) >>> 3;
  if (pairs > 0) {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, pairs * 2);
    for (let word = 0; word < words.length; word += 2) {
      const low = words[word]! ^ sum;
      const high = words[word + 1]!;
      sum =
        t7[low & 0xff]! ^
        t6[(low >>> 8) & 0xff]! ^
        t5[(low >>> 16) & 0xff]! ^
        t4[low >>> 24]! ^
        t3[high & 0xff]! ^
        t2[(high >>> 8) & 0xff]! ^
        t1[(high >>> 16) & 0xff]! ^
        t0[high >>> 24]!;
    }
    at += pairs * 8;
  }
  for (; at < length; at += 1) sum = (sum >>> 8) ^ t0[(sum ^ bytes[at]!) & 0xff]!;
  return sum;
}

function compiled(): SumBlock | null {
  try {
    const tablesBytes = N_TABLES * 1024;
    const memory = new WebAssembly.Memory({ initial: Math.ceil((tablesBytes + BLOCK_BYTES) / PAGE_BYTES) });
    const program = new WebAssembly.Module(programOf(tablesBytes, HALF_BYTES));
    const { sum: sumHalves } = new WebAssembly.Instance(program, { env: { memory } }).exports as {
      sum: (sum: number) => [number, number];
    };
    TABLES.forEach((table, nth) => new Int32Array(memory.buffer, nth * 1024, 256).set(table));
    const place = new Uint8Array(memory.buffer, tablesBytes, BLOCK_BYTES);
    return (sum, block) => {
      place.set(block);
      const [first, second] = sumHalves(sum);
      return bitsOf(BITS_LATER, first) ^ second;
    };
  } catch {
    // No WebAssembly, or the page's policy forbids it: the tables do the same, at a third of the speed.
    return null;
  }
}

function buildTables(): Int32Array[] {
  const tables = Array.from({ length: N_TABLES }, () => new Int32Array(256));
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0]![byte] = crc;
  }
  for (let table = 1; table < N_TABLES; table += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      const before = tables[table - 1]![byte]!;
      tables[table]![byte] = (before >>> 8) ^ tables[0]![before & 0xff]!;
    }
  }
  return tables;
}

function bitsAfterZeros(count: number): Int32Array {
  let later = Int32Array.from({ length: 32 }, (_, bit) => ((1 << bit) >>> 8) ^ TABLES[0]![(1 << bit) & 0xff]!);
  for (let bytes = 1; bytes < count; bytes *= 2) later = later.map((sum) => bitsOf(later, sum));
  return later;
}

function bitsOf(later: Int32Array, sum: number): number {
  let result = 0;
  for (let bit = 0; bit < 32; bit += 1) if ((sum >>> bit) & 1) result ^= later[bit]!;
  return result;
}
