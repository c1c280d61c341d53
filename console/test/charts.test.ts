import type { Chart } from "@trainshed/client";
import { describe, expect, it } from "vitest";
import { column, numbers, seriesOf } from "../src/charts/data";

function chart(parts: Partial<Chart>): Chart {
  return { name: "", kind: "line", title: "", data: {}, ...parts } as Chart;
}

describe("a column", () => {
  it("is named with its unit", () => {
    const found = column(chart({ x: { field: "power", title: "Power", unit: "kW" }, data: { power: [1] } }), "x");
    expect(found?.title).toBe("Power [kW]");
  });

  it("is null where the chart has none, or no data for it", () => {
    expect(column(chart({}), "x")).toBeNull();
    expect(column(chart({ x: { field: "gone" } }), "x")).toBeNull();
  });

  it("has its type from its first value, after the gaps", () => {
    const typeOf = (values: unknown[], type?: string) => column(chart({ x: { field: "x", ...(type && { type }) }, data: { x: values } }), "x")?.type;
    expect([typeOf([null, 3]), typeOf([null, "a"]), typeOf([]), typeOf(["2026-01-01"], "date")]).toEqual(["number", "text", "number", "date"]);
  });

  it("gives gaps for what is no number", () => {
    expect(numbers({ values: [1, null, "x", NaN], type: "number", title: "" })).toEqual([1, null, null, null]);
    expect(numbers({ values: ["1970-01-02", "?"], type: "date", title: "" })).toEqual([86_400_000, null]);
  });
});

describe("series", () => {
  it("keep their rows and come in the order of the data", () => {
    const found = seriesOf(chart({ series: { field: "part" }, data: { part: ["test", "train", "test", null] } }), 4);
    expect(found).toEqual([{ name: "test", rows: [0, 2] }, { name: "train", rows: [1] }, { name: "–", rows: [3] }]);
  });

  it("are one where the chart has none", () => {
    expect(seriesOf(chart({}), 3)).toEqual([{ name: "", rows: [0, 1, 2] }]);
  });
});
