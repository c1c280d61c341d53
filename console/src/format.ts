/** How numbers, sizes and times are written everywhere on the page. */

import metrics from "./metrics.json";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"];

export function count(n: number): string {
  return whole.format(n);
}

/** "1 file", "2 files". */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function size(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return bytes === 1 ? "1 byte" : `${value} bytes`;
  return `${value >= 99.5 ? value.toFixed(0) : value >= 9.95 ? value.toFixed(1) : value.toFixed(2)} ${UNITS[unit]}`;
}

export function rate(bytesPerSecond: number): string {
  return `${size(Math.round(bytesPerSecond))}/s`;
}

/** A measure or statistic: about four digits that count. */
export function measure(value: unknown): string {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return minus(whole.format(value));
  const magnitude = Math.abs(value);
  if (magnitude >= 1e6 || magnitude < 1e-4) return minus(value.toExponential(2));
  const digits = Math.max(0, Math.min(6, 3 - Math.floor(Math.log10(magnitude))));
  return minus(value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
}

function minus(text: string): string {
  return text.replaceAll("-", "−");
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

export function duration(seconds: number): string {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });
const moment = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });

export function when(time: string): string {
  return moment.format(new Date(time));
}

/** "3 min ago", or the day. */
export function ago(time: string, now = Date.now()): string {
  const seconds = (now - Date.parse(time)) / 1000;
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return day.format(new Date(time));
}

/** "dense_network" as "Dense network". */
export function words(name: string): string {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

type Metrics = Readonly<Record<string, { title: string; better: string }>>;
// The service's own list is MAIN_METRICS in shared/models.py; tests/architecture holds the two together.
const METRICS: Metrics = metrics;

export function metricName(name: string): string {
  return METRICS[name]?.title ?? words(name);
}

/** The best of some values; null where nobody can know whether less or more is better. */
export function bestOf(metric: string, values: readonly number[]): number | null {
  const better = METRICS[metric]?.better;
  return better ? (better === "less" ? Math.min(...values) : Math.max(...values)) : null;
}
