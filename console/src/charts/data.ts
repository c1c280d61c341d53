import type { Chart } from "@trainshed/client";

/** What a chart of the service says of one of its columns. */
export interface Encoding {
  field: string;
  to?: string;
  title?: string;
  unit?: string;
  type?: string;
}

export interface Column {
  values: readonly unknown[];
  type: "number" | "date" | "text";
  title: string;
}

/** Rows of one value of `series`, in their order. */
export interface Series {
  name: string;
  rows: number[];
}

export function encoding(chart: Chart, part: "x" | "y" | "series" | "color"): Encoding | null {
  const found = chart[part];
  return typeof found === "object" && found !== null && typeof (found as Encoding).field === "string" ? (found as Encoding) : null;
}

/** The column of an encoding; null if the chart has none. */
export function column(chart: Chart, part: "x" | "y" | "series" | "color"): Column | null {
  const found = encoding(chart, part);
  const values = found && chart.data[found.field];
  if (!found || !Array.isArray(values)) return null;
  const first = values.find((value) => value !== null && value !== undefined);
  const type = found.type === "date" ? "date" : typeof first === "number" || (first === undefined && found.type !== "text") ? "number" : "text";
  const name = found.title ?? found.field;
  return { values, type, title: found.unit ? `${name} [${found.unit}]` : name };
}

/** Numbers as they are, dates as milliseconds, all else as a gap. */
export function numbers({ values, type }: Column): (number | null)[] {
  return values.map((value) => {
    const number = type === "date" ? Date.parse(String(value)) : value;
    return typeof number === "number" && Number.isFinite(number) ? number : null;
  });
}

export function seriesOf(chart: Chart, rows: number): Series[] {
  const by = column(chart, "series");
  if (!by) return [{ name: "", rows: Array.from({ length: rows }, (_, row) => row) }];
  const found = new Map<string, Series>();
  for (let row = 0; row < rows; row += 1) {
    const name = String(by.values[row] ?? "–");
    const series = found.get(name) ?? { name, rows: [] };
    series.rows.push(row);
    found.set(name, series);
  }
  return [...found.values()];
}

/** Names in the order in which they come. */
export function categories(values: readonly unknown[]): string[] {
  return [...new Set(values.map((value) => String(value ?? "–")))];
}
