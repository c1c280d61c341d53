import { expect, test } from "vitest";
import { Concurrency } from "../src/uploads/concurrency.js";

/** Store chunks at a rate that depends on how many requests there are, for some seconds. */
function run(concurrency: Concurrency, rate: (limit: number) => number, from: number, seconds: number): number {
  let now = from;
  while (now < from + seconds * 1000) {
    now += 100;
    concurrency.stored(rate(concurrency.limit) / 10, now);
  }
  return now;
}

test("requests are added while each makes the upload faster, and not beyond the limit", () => {
  const concurrency = new Concurrency(2, 0, 9);
  run(concurrency, (limit) => limit * 1000, 0, 60);
  expect(concurrency.limit).toBe(9);
});

test("a request that does not pay is taken back", () => {
  const concurrency = new Concurrency(4, 0);
  const seen = new Set<number>();
  let now = 0;
  for (let second = 0; second < 60; second += 1) {
    now = run(concurrency, (limit) => Math.min(limit, 6) * 1000, now, 1);
    seen.add(concurrency.limit);
  }
  expect(Math.max(...seen)).toBeLessThanOrEqual(8);
  expect(concurrency.limit).toBeGreaterThanOrEqual(6);
});

test("a complaint of the bucket halves them, once for all complaints of the same moment", () => {
  const concurrency = new Concurrency(8, 0);
  for (let at = 1000; at < 1800; at += 100) concurrency.busy(at);
  expect(concurrency.limit).toBe(4);
  concurrency.busy(10_000);
  expect(concurrency.limit).toBe(2);
  for (let at = 20_000; at < 90_000; at += 10_000) concurrency.busy(at);
  expect(concurrency.limit).toBe(1);
});

test("after a complaint they rise again where it pays", () => {
  const concurrency = new Concurrency(8, 0);
  concurrency.busy(1000);
  run(concurrency, (limit) => limit * 1000, 1000, 30);
  expect(concurrency.limit).toBeGreaterThan(8);
});
