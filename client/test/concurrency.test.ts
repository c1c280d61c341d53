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

test("they are never more than sixteen where nobody asks for fewer, and never less than one", () => {
  const concurrency = new Concurrency(8, 0);
  run(concurrency, (limit) => limit * 1000, 0, 60);
  expect(concurrency.limit).toBe(16);
  expect([new Concurrency(99, 0), new Concurrency(0, 0), new Concurrency(5, 0, 2), new Concurrency(5, 0, 0)].map(({ limit }) => limit)).toEqual([16, 1, 2, 1]);
});

test("after a request that did not pay, the next is tried eight windows later", () => {
  const concurrency = new Concurrency(4, 0);
  const limits = Array.from({ length: 12 }, (_, second) => (run(concurrency, () => 6000, second * 1000, 1), concurrency.limit));
  expect(limits).toEqual([5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 4]);
});

test("after a complaint two windows pass before they rise, whatever was tried before it", () => {
  const concurrency = new Concurrency(7, 0);
  run(concurrency, (limit) => limit * 1000, 0, 1);
  expect(concurrency.limit).toBe(8);
  concurrency.busy(1000);
  const limits = Array.from({ length: 3 }, (_, second) => (run(concurrency, (limit) => limit * 1000, (second + 1) * 1000, 1), concurrency.limit));
  expect(limits).toEqual([4, 4, 5]);
});

test("nothing is concluded from less than a second, from fewer chunks than requests, or over a break", () => {
  const fast = new Concurrency(4, 0);
  for (let now = 10; now < 900; now += 10) fast.stored(1000, now);
  expect(fast.limit).toBe(4);

  const slow = new Concurrency(4, 0);
  for (let now = 600; now <= 1800; now += 600) slow.stored(1000, now);
  expect(slow.limit).toBe(4);
  slow.stored(1000, 2400);
  expect(slow.limit).toBe(5);

  const broken = new Concurrency(4, 0);
  for (let now = 100; now <= 300; now += 100) broken.stored(1000, now);
  broken.restart(60_000);
  broken.stored(1000, 60_100);
  expect(broken.limit).toBe(4);
});
