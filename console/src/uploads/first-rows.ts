import type { Table } from "@trainshed/client";

const HEAD_BYTES = 64 * 1024;
const MOST_ROWS = 8;

/**
 * Read the first rows of a table from the file itself, by what the service has found out about it.
 *
 * @returns cells by row, without the header
 */
export async function firstRows(file: Blob, table: Table): Promise<string[][]> {
  if (!table.delimiter || table.problem) return [];
  const text = await headText(file, table);
  const { rows, isWhole } = parse(text, table.delimiter, MOST_ROWS + 2);
  // The last one may be cut off where the head ends.
  const whole = isWhole || file.size <= HEAD_BYTES ? rows : rows.slice(0, -1);
  return whole.slice(1, MOST_ROWS + 1);
}

async function headText(file: Blob, { encoding, compression }: Table): Promise<string> {
  const decoder = new TextDecoder(encoding ?? "utf-8");
  const head = file.slice(0, HEAD_BYTES);
  if (compression !== "gzip") return decoder.decode(await head.arrayBuffer());
  const reader = head.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  let text = "";
  try {
    while (text.length < HEAD_BYTES) {
      const { value, done } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } catch {
    // The stream is cut off where the head ends; what came before is what was asked for.
  }
  return text;
}

/** Split CSV into rows; quotes as in RFC 4180. */
export function parse(text: string, delimiter: string, mostRows: number): { rows: string[][]; isWhole: boolean } {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const letter = text.charAt(at);
    if (isQuoted) {
      if (letter !== '"') cell += letter;
      else if (text.charAt(at + 1) === '"') {
        cell += '"';
        at += 1;
      } else isQuoted = false;
    } else if (letter === '"' && cell === "") isQuoted = true;
    else if (letter === delimiter) {
      row.push(cell);
      cell = "";
    } else if (letter === "\n" || letter === "\r") {
      if (letter === "\r" && text.charAt(at + 1) === "\n") at += 1;
      row.push(cell);
      cell = "";
      if (row.length > 1 || row[0] !== "") rows.push(row);
      row = [];
      if (rows.length >= mostRows) return { rows, isWhole: true };
    } else cell += letter;
  }
  if (cell !== "" || row.length > 0) rows.push([...row, cell]);
  return { rows, isWhole: false };
}
