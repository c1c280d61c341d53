import { expect, test } from "vitest";
import { duration, measure, percent, size } from "../src/format";
import { slug, titleFor } from "../src/pages/names";
import { sorted } from "../src/uploads/dropped";
import { parse } from "../src/uploads/first-rows";
import { Slices } from "../src/uploads/slices";

test.each([[0, "0 bytes"], [1, "1 byte"], [999, "999 bytes"], [999_500, "1.00 MB"], [12_340, "12.3 kB"], [5 * 2 ** 40, "5.50 TB"]])("%i bytes are written as %s", (bytes, text) => {
  expect(size(bytes)).toBe(text);
});

test.each([[0, "0"], [-3, "−3"], [1234567.5, "1.23e+6"], [0.00001, "1.00e−5"], [0.98765, "0.9877"], [Number.NaN, "–"], [null, "–"], ["text", "text"]])("the measure %s is written as %s", (value, text) => {
  expect(measure(value)).toBe(text);
});

test("shares and durations are rounded to what one wants to know", () => {
  expect([percent(0), percent(0.034), percent(0.5)]).toEqual(["0 %", "3.4 %", "50 %"]);
  expect([duration(0.2), duration(89), duration(600), duration(9000)]).toEqual(["less than a second", "89 s", "10 min", "2.5 h"]);
});

test.each([["Büro, 3. Stock", "buro-3.-stock"], ["..", "session"], ["🚂", "session"], ["a".repeat(99), "a".repeat(60)]])("a session called %s gets an id that is allowed", (title, id) => {
  expect(slug(title)).toBe(id);
});

test.each([["june.csv.gz", "june"], ["readings/2024/june.csv", "readings"], [".csv", ".csv"], ["notes", "notes"]])("files at %s propose a title", (path, title) => {
  expect(titleFor(path)).toBe(title);
});

test("hundreds of paths are sorted as people count", async () => {
  const paths = Array.from({ length: 500 }, (_, n) => `${(n * 263) % 500}.csv`);

  const found = await sorted(paths.map((path) => ({ path, file: new File([], path) })), new Slices());

  expect(found.map(({ path }) => path)).toEqual(Array.from({ length: 500 }, (_, n) => `${n}.csv`));
});

test("quoted cells may hold delimiters, quotes and line ends", () => {
  expect(parse('a;"b;""c"""\r\n"1\n2";3', ";", 9).rows).toEqual([["a", 'b;"c"'], ["1\n2", "3"]]);
});
