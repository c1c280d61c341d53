/** From values to pixels, and the round values that stand beside an axis. */

export interface Tick {
  value: number;
  text: string;
}

export type Scale = (value: number) => number;

export function linear([from, to]: readonly [number, number], [start, end]: readonly [number, number]): Scale {
  const span = to - from || 1;
  return (value) => start + ((value - from) / span) * (end - start);
}

/** Least and greatest of the finite values; null if there is none. No spreading: columns have up to 10,000 values. */
export function extent(values: Iterable<number | null | undefined>): [number, number] | null {
  let least = Infinity;
  let most = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined || !Number.isFinite(value)) continue;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return least <= most ? [least, most] : null;
}

/** Widen a domain a little, so that nothing sits on the frame. */
export function padded([from, to]: readonly [number, number], share = 0.04): [number, number] {
  const span = to - from || Math.abs(from) || 1;
  return [from - span * share, to + span * share];
}

/** A domain as wide as its values are apart; around a single whole number, one on each side. */
export function around([from, to]: readonly [number, number], isWhole: boolean): readonly [number, number] {
  if (from !== to) return [from, to];
  return isWhole ? [from - 1, to + 1] : padded([from, to]);
}

/** About `most` round values within a domain; between whole numbers there are none. */
export function numberTicks([from, to]: readonly [number, number], most: number, isWhole = false): Tick[] {
  const least = (to - from) / Math.max(1, most);
  const step = roundStep(isWhole && least > 0 ? Math.max(1, least) : least);
  if (!Number.isFinite(step) || step <= 0) return [];
  const ticks: Tick[] = [];
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  for (let n = first; n <= last && ticks.length < 50; n += 1) {
    const value = n * step;
    ticks.push({ value, text: tickText(value, step) });
  }
  return ticks;
}

function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  const rest = least / power;
  return (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10) * power;
}

function tickText(value: number, step: number): string {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude >= 1e15 || step < 1e-6) return value.toExponential(1).replace("-", "−");
  if (magnitude >= 1e9) return short(value / 1e9, step / 1e9, "B");
  if (magnitude >= 1e6) return short(value / 1e6, step / 1e6, "M");
  if (magnitude >= 1e4) return short(value / 1e3, step / 1e3, "k");
  return short(value, step, "");
}

function short(value: number, step: number, unit: string): string {
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
  return value.toFixed(digits).replace("-", "−") + unit;
}

const SECOND = 1000;
const DAY = 86_400 * SECOND;
const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200].map((s) => s * SECOND);

/** Round moments [ms], in UTC as the service counts. */
export function dateTicks([from, to]: readonly [number, number], most: number): Tick[] {
  const least = (to - from) / Math.max(1, most);
  const small = STEPS.find((step) => step >= least);
  const ticks: Tick[] = [];
  if (small) {
    for (let at = Math.ceil(from / small) * small; at <= to && ticks.length < 50; at += small) {
      const iso = new Date(at).toISOString();
      ticks.push({ value: at, text: at % DAY === 0 ? iso.slice(0, 10) : iso.slice(11, small < 60 * SECOND ? 19 : 16) });
    }
    return ticks;
  }
  const days = [1, 2, 7, 14].map((n) => n * DAY).find((step) => step >= least);
  if (days) {
    for (let at = Math.ceil(from / days) * days; at <= to && ticks.length < 50; at += days) {
      ticks.push({ value: at, text: new Date(at).toISOString().slice(5, 10) });
    }
    return ticks;
  }
  const months = [1, 3, 6, 12, 24, 60, 120, 240, 600, 1200].find((n) => n * 30 * DAY >= least) ?? 1200;
  const first = new Date(from);
  for (let month = 0; ticks.length < 50; month += 1) {
    const at = Date.UTC(first.getUTCFullYear(), month, 1);
    if (at > to) break;
    const absolute = first.getUTCFullYear() * 12 + month;
    if (at < from || absolute % months !== 0) continue;
    ticks.push({ value: at, text: new Date(at).toISOString().slice(0, months >= 12 ? 4 : 7) });
  }
  return ticks;
}
