import { TrainshedError } from "@trainshed/client";
import { beforeEach, expect, test, vi } from "vitest";

const { started } = vi.hoisted(() => {
  // The module asks before the page is left; there is no page here.
  vi.stubGlobal("addEventListener", () => undefined);
  return { started: new Map<string, { resolve: (upload: { nRows: number }) => void; reject: (error: unknown) => void; tell: Map<string, (news: unknown) => void> }>() };
});

vi.mock("../src/service", () => ({
  service: () => ({
    uploads: {
      start(_file: Blob, { fileName }: { fileName: string }) {
        const tell = new Map<string, (news: unknown) => void>();
        const done = new Promise((resolve, reject) => started.set(fileName, { resolve, reject, tell }));
        const cancel = async (): Promise<void> => started.get(fileName)?.reject(new TrainshedError("cancelled", "It was cancelled."));
        return { state: "hashing", done, cancel, on: (event: string, hear: (news: unknown) => void) => tell.set(event, hear) };
      },
    },
  }),
}));

const { SessionQueue } = await import("../src/uploads/queue");

const nobody = (): boolean => false;

function files(...names: string[]) {
  return names.map((path) => ({ file: new File(["four"], path), path }));
}

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

beforeEach(() => started.clear());

test("four files are sent at once, and the next begins when one is in", async () => {
  const queue = new SessionQueue("s");
  await queue.add(files("1", "2", "3", "4", "5", "6"));
  expect([...started.keys()]).toEqual(["1", "2", "3", "4"]);

  started.get("2")?.resolve({ nRows: 7 });
  await settled();

  expect([...started.keys()]).toEqual(["1", "2", "3", "4", "5"]);
  expect(queue.find("2")?.nRows.value).toBe(7);
  expect(queue.totals).toMatchObject({ files: 6, filesIn: 1, bytes: 24, storedBytes: 4 });
});

test("a file that is on its way is not taken twice; one that failed is", async () => {
  const queue = new SessionQueue("s");
  await queue.add(files("a", "b"));
  started.get("a")?.reject(new Error("broken"));
  await settled();

  await queue.add(files("a", "b"));

  expect(queue.size).toBe(2);
  expect(queue.find("a")?.state.value).toBe("hashing");
});

test("failures come first where not all can be seen, and files shown elsewhere are left out", async () => {
  const queue = new SessionQueue("s");
  await queue.add(files("1", "2", "3", "4", "5", "6"));
  started.get("1")?.resolve({ nRows: 1 });
  started.get("3")?.reject(new Error("broken"));
  await settled();

  const { items, rest } = queue.first(2, (name) => name === "1");

  expect(items.map(({ name }) => name)).toEqual(["3", "2"]);
  expect(rest).toBe(3);
  expect(queue.first(9, nobody).items.map(({ name }) => name)).toEqual(["1", "2", "3", "4", "5", "6"]);
});

test("when all is cancelled nothing waits and nothing new begins", async () => {
  const queue = new SessionQueue("s");
  await queue.add(files("1", "2", "3", "4", "5", "6"));

  await queue.cancelAll();
  await settled();

  expect(started.size).toBe(4);
  expect(queue.isLive).toBe(false);
  expect(queue.totals).toMatchObject({ files: 0, bytes: 0, storedBytes: 0 });
});

test("tables of files that are cancelled are no longer shown, one by one or all", async () => {
  const queue = new SessionQueue("s");
  await queue.add(files("1", "2", "3"));
  for (const { tell } of started.values()) tell.get("table")?.({ problem: null, delimiter: null, columns: [] });
  const shown = (): string[] => queue.tables.value.map(({ name }) => name);
  expect(shown()).toEqual(["1", "2", "3"]);

  const second = queue.find("2");
  if (second) await queue.cancel(second);
  await settled();
  expect(shown()).toEqual(["1", "3"]);

  await queue.cancelAll();
  await settled();
  expect(shown()).toEqual([]);
});

test("folders become part of a file's name", async () => {
  const queue = new SessionQueue("s");
  await queue.add(files("2024/june.csv"));

  expect([...started.keys()]).toEqual(["2024 - june.csv"]);
});
