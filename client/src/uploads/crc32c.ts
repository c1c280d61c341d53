/**
 * CRC-32C (Castagnoli), eight bytes a step: the polynomial that Cloud Storage computes for every object.
 *
 * Source: RFC 3720, appendix B.4 (polynomial and test values); "slicing by 8" as M. Kounavis and F. Berry describe it (2005).
 */

const POLYNOMIAL = 0x82f63b78; // 0x1edc6f41, bits reversed

const TABLES = buildTables();

function buildTables(): Uint32Array[] {
  const tables = Array.from({ length: 8 }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0]![byte] = crc;
  }
  for (let table = 1; table < 8; table += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      const before = tables[table - 1]![byte]!;
      tables[table]![byte] = (before >>> 8) ^ tables[0]![before & 0xff]!;
    }
  }
  return tables;
}

/**
 * Return the checksum of what was summed before, followed by `bytes`.
 *
 * @param crc - of what comes before; 0 for nothing
 */
export function extend(crc: number, bytes: Uint8Array): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  let sum = ~crc;
  let at = 0;
  const { length } = bytes;
  // Words can be read where they are aligned.
  const aligned = Math.min(length, -bytes.byteOffset & 3);
  for (; at < aligned; at += 1) sum = (sum >>> 8) ^ t0[(sum ^ bytes[at]!) & 0xff]!;
  const pairs = (length - at) >>> 3;
  if (pairs > 0 && IS_LITTLE_ENDIAN) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + at, pairs * 2);
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
  return ~sum >>> 0;
}

const IS_LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** Write a checksum as Cloud Storage does: base64 of the big-endian bytes. */
export function textOf(crc: number): string {
  return btoa(String.fromCharCode(crc >>> 24, (crc >>> 16) & 0xff, (crc >>> 8) & 0xff, crc & 0xff));
}
