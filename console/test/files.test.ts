import type { Table } from "@trainshed/client";
import { describe, expect, it } from "vitest";
import { dropped } from "../src/uploads/dropped";
import { firstRows } from "../src/uploads/first-rows";

function table(more: Partial<Table> = {}): Table {
  return { delimiter: ",", encoding: "utf-8", compression: null, problem: null, columns: [], ...more } as unknown as Table;
}

const HEADER = "n,text\n";

function lines(count: number): string {
  return Array.from({ length: count }, (_, n) => `${n},${"x".repeat(20)}\n`).join("");
}

describe("the first rows of a table", () => {
  it("are at most eight, without the header and without the mark of the encoding", async () => {
    const rows = await firstRows(new Blob([`\uFEFF${HEADER}${lines(20)}`]), table());

    expect(rows.length).toBe(8);
    expect(rows[0]).toEqual(["0", "x".repeat(20)]);
  });

  it("are read out of gzip, of which only the head is there", async () => {
    const whole = new Blob([HEADER + lines(20_000)]).stream().pipeThrough(new CompressionStream("gzip"));

    const rows = await firstRows(await new Response(whole).blob(), table({ compression: "gzip" } as Partial<Table>));

    expect(rows.map(([n]) => n)).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]);
  });

  it("have no row that is cut off where the head ends", async () => {
    const long = `${"a".repeat(40_000)},1\n`;

    expect((await firstRows(new Blob([HEADER, long, long]), table())).length).toBe(1);
  });

  it("keep delimiters, quotes and line ends that are quoted", async () => {
    const rows = await firstRows(new Blob(['a;b\r\n"1;""2""\n3";4\r\n']), table({ delimiter: ";" }));

    expect(rows).toEqual([['1;"2"\n3', "4"]]);
  });
});

/** An entry as a browser gives it: a folder answers a hundred at a time, and at last none. */
function folder(name: string, names: readonly string[]): FileSystemEntry {
  const entries = names.map((inner) => ({
    isFile: true,
    fullPath: `/${name}/${inner}`,
    file: (resolve: (file: File) => void) => resolve(new File(["x"], inner)),
  }));
  return { isFile: false, createReader: () => ({ readEntries: (resolve: (some: unknown[]) => void) => resolve(entries.splice(0, 100)) }) } as unknown as FileSystemEntry;
}

it("a folder is read to its end, and its files come in the order of their numbers", async () => {
  const names = Array.from({ length: 250 }, (_, n) => `${n}.csv`);
  const item = { kind: "file", webkitGetAsEntry: () => folder("many", [...names].reverse()) };

  const found = await dropped({ items: [item], files: [] } as unknown as DataTransfer);

  expect(found.map(({ path }) => path)).toEqual(names.map((name) => `many/${name}`));
});
