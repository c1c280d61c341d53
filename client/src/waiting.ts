import { cancelledError } from "./errors.js";

/** Waits between tries: doubled each time, with jitter over the upper half, never longer than `mostMs`. */
export interface Backoff {
  readonly firstMs: number;
  readonly mostMs: number;
}

export const BACKOFF: Backoff = { firstMs: 500, mostMs: 30_000 };

/**
 * How long to wait after a failure [ms].
 *
 * @param failures - how often it failed in a row, from 1
 * @param askedMs - what `Retry-After` asks for, which is waited at least
 */
export function waitMs(failures: number, askedMs: number | null = null, backoff: Backoff = BACKOFF): number {
  const most = Math.min(backoff.mostMs, backoff.firstMs * 2 ** Math.min(failures - 1, 16));
  return Math.max(askedMs ?? 0, most * (0.5 + Math.random() / 2));
}

/** Nobody means more, and a timer cannot wait for 25 days: it would end at once. */
const LONGEST_ASKED_MS = 24 * 3600 * 1000;

/** Read `Retry-After`: seconds or a date; null where there is none [ms]. */
export function retryAfterMs(value: string | null, now: number = Date.now()): number | null {
  if (value === null || value.trim() === "") return null;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(0, ms), LONGEST_ASKED_MS);
}

/** Wait; a signal ends it with the error `cancelled`. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelledError(signal));
      return;
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    function stop(): void {
      clearTimeout(timer);
      reject(cancelledError(signal));
    }
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Whether the browser knows that it has no network; elsewhere nobody knows. */
export function isOffline(): boolean {
  return typeof navigator !== "undefined" && navigator.onLine === false;
}

/** Wait until the browser has a network again. */
export function online(signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (!isOffline()) {
      resolve();
      return;
    }
    const done = (): void => {
      globalThis.removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      if (signal?.aborted) reject(cancelledError(signal));
      else resolve();
    };
    globalThis.addEventListener("online", done);
    signal?.addEventListener("abort", done, { once: true });
  });
}
