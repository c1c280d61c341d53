/** What the tests of uploads share. */
import { expect, vi } from "vitest";
import type { Client, TaskState, UploadTask } from "../src/index.js";

/** Make a file whose chunks differ. */
export function file(size: number, seed = 1): File {
  return new File([Uint8Array.from({ length: size }, (_, at) => (at * seed + (at >> 8)) & 0xff)], "data.csv", { type: "text/csv" });
}

export function statesOf(task: UploadTask): TaskState[] {
  const states: TaskState[] = [];
  task.on("state", (state) => states.push(state));
  return states;
}

export function begin(client: Client, content: Blob, options: Partial<Parameters<Client["uploads"]["start"]>[1]> = {}): UploadTask {
  return client.uploads.start(content, { sessionId: "s", ...options });
}

export const until = (condition: () => boolean): Promise<void> => vi.waitFor(() => expect(condition()).toBe(true), { timeout: 50_000, interval: 2 });
