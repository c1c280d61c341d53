/**
 * Writes the WebAssembly program that sums a block, in the binary format of https://webassembly.github.io/spec/core/binary/.
 *
 * Its memory holds the eight tables, then the two halves of the block. `sum` takes what was summed before the first half and
 * returns two sums: of the first half, and of the second as if nothing came before it.
 */

const I32 = 0x7f;
const LOOP = [0x03, 0x40];
const END = 0x0b;
const BR_IF = 0x0d;
const LOCAL_GET = 0x20;
const LOCAL_SET = 0x21;
const LOCAL_TEE = 0x22;
const I32_LOAD = 0x28;
const I32_CONST = 0x41;
const I32_LT_U = 0x49;
const I32_ADD = 0x6a;
const I32_AND = 0x71;
const I32_XOR = 0x73;
const I32_SHL = 0x74;
const I32_SHR_U = 0x76;

// The parameter, then the locals.
const FIRST_SUM = 0;
const SECOND_SUM = 1;
const AT = 2;
const LOW = 3;
const HIGH = 4;

/**
 * @param tablesBytes - of the eight tables; the block lies behind them
 * @param halfBytes - of each half, a multiple of 8
 */
export function programOf(tablesBytes: number, halfBytes: number): Uint8Array<ArrayBuffer> {
  const body = [
    ...[1, 4, I32], // four locals
    ...LOOP,
    ...sumEightBytes(FIRST_SUM, tablesBytes),
    ...sumEightBytes(SECOND_SUM, tablesBytes + halfBytes),
    ...[LOCAL_GET, AT, ...constant(8), I32_ADD, LOCAL_TEE, AT, ...constant(halfBytes), I32_LT_U, BR_IF, 0],
    END,
    ...[LOCAL_GET, FIRST_SUM, LOCAL_GET, SECOND_SUM],
    END,
  ];
  return Uint8Array.from([
    ...[0x00, ...text("asm"), 1, 0, 0, 0],
    ...section(1, [1, 0x60, 1, I32, 2, I32, I32]), // one type: of one number two
    ...section(2, [1, ...name("env"), ...name("memory"), 0x02, 0x00, 1]),
    ...section(3, [1, 0]), // one function, of that type
    ...section(7, [1, ...name("sum"), 0x00, 0]),
    ...section(10, [1, ...unsigned(body.length), ...body]),
  ]);
}

/** Take the eight bytes at `AT`, `offset` further on, into a sum. */
function sumEightBytes(sum: number, offset: number): number[] {
  return [
    ...[LOCAL_GET, AT, ...load(offset), LOCAL_GET, sum, I32_XOR, LOCAL_SET, LOW],
    ...[LOCAL_GET, AT, ...load(offset + 4), LOCAL_SET, HIGH],
    ...[0, 8, 16, 24].flatMap((shift) => [
      ...[...lookedUp(LOW, shift), ...lookedUp(HIGH, shift), I32_XOR],
      ...(shift > 0 ? [I32_XOR] : []),
    ]),
    ...[LOCAL_SET, sum],
  ];
}

/** What the table for one byte of a word has for it: the farther a byte is from the end, the higher its table. */
function lookedUp(word: number, shift: number): number[] {
  const table = (word === LOW ? 7 : 3) - shift / 8;
  // The byte times four, the bytes of an entry.
  const toEntry = shift === 0 ? [...constant(2), I32_SHL] : [...constant(shift - 2), I32_SHR_U];
  return [LOCAL_GET, word, ...toEntry, ...constant(0xff << 2), I32_AND, ...load(table * 1024)];
}

function load(offset: number): number[] {
  const alignedTo4 = 2;
  return [I32_LOAD, alignedTo4, ...unsigned(offset)];
}

function constant(value: number): number[] {
  // Signed: what a last group of seven bits begins with is its sign.
  const groups = unsigned(value);
  if (groups.at(-1)! < 0x40) return [I32_CONST, ...groups];
  return [I32_CONST, ...groups.slice(0, -1), groups.at(-1)! | 0x80, 0];
}

function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function section(id: number, content: number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

function name(of: string): number[] {
  return [of.length, ...text(of)];
}

function text(of: string): number[] {
  return Array.from(of, (character) => character.charCodeAt(0));
}
