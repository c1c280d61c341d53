import { describe, expect, it } from "vitest";
import { around, dateTicks, extent, linear, numberTicks, padded } from "../src/charts/scale";

function texts(ticks: readonly { text: string }[]): string[] {
  return ticks.map(({ text }) => text);
}

describe("a domain", () => {
  it("is of the finite values alone", () => {
    expect(extent([3, null, NaN, -1, Infinity, undefined])).toEqual([-1, 3]);
  });

  it("is none without values", () => {
    expect(extent([null, NaN])).toBeNull();
  });

  it("of one value becomes wide enough to stand in", () => {
    expect(padded([5, 5])).toEqual([4.8, 5.2]);
    expect(padded([0, 0])).toEqual([-0.04, 0.04]);
  });

  it("is drawn from edge to edge", () => {
    expect([0, 5, 10].map(linear([0, 10], [200, 0]))).toEqual([200, 100, 0]);
  });
});

describe("ticks", () => {
  it("are round", () => {
    expect(texts(numberTicks([-0.13, 0.41], 5))).toEqual(["0", "0.2", "0.4"]);
    expect(texts(numberTicks([-2, 2], 4))).toEqual(["−2", "−1", "0", "1", "2"]);
  });

  it("of large numbers are short", () => {
    expect(texts(numberTicks([0, 40_000], 2))).toEqual(["0", "20k", "40k"]);
    expect(texts(numberTicks([0, 3e6], 3))).toEqual(["0", "1M", "2M", "3M"]);
  });

  it("of whole numbers are whole, also around a single one", () => {
    expect(texts(numberTicks([1, 2], 8, true))).toEqual(["1", "2"]);
    expect(texts(numberTicks(around([7, 7], true), 8, true))).toEqual(["6", "7", "8"]);
    expect(texts(numberTicks([0, 1000], 4, true))).toEqual(["0", "500", "1000"]);
    expect(numberTicks([3, 3], 4, true)).toEqual([]);
  });

  it("of an empty domain are none", () => {
    expect(numberTicks([3, 3], 4)).toEqual([]);
  });

  it("of dates are hours, days, months or years, by the span", () => {
    const start = Date.UTC(2026, 0, 1);
    const day = 86_400_000;
    expect(texts(dateTicks([start, start + day], 4))).toEqual(["2026-01-01", "06:00", "12:00", "18:00", "2026-01-02"]);
    expect(texts(dateTicks([start, start + 6 * day], 3))).toEqual(["01-01", "01-03", "01-05", "01-07"]);
    expect(texts(dateTicks([start, start + 180 * day], 2))).toEqual(["2026-01", "2026-04"]);
    expect(texts(dateTicks([start, start + 1500 * day], 5))).toEqual(["2026", "2027", "2028", "2029", "2030"]);
  });
});
