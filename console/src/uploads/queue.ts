import { TrainshedError, type Table, type TaskProgress, type TaskState, type UploadTask } from "@trainshed/client";
import { signal, type Signal } from "@preact/signals";
import { service } from "../service";
import type { Dropped } from "./dropped";
import { firstRows } from "./first-rows";
import { Slices } from "./slices";

/** Those of the client's task, and of a file whose turn has not come. */
export type ItemState = TaskState | "waiting";

/** One file on its way into a session. */
export interface Item {
  readonly key: number;
  readonly name: string;
  readonly file: File;
  readonly state: Signal<ItemState>;
  readonly progress: Signal<TaskProgress | null>;
  readonly rows: Signal<string[][]>;
  readonly nRows: Signal<number | null>;
  readonly table: Signal<Table | null>;
  readonly error: Signal<unknown>;
  task: UploadTask | null;
}

/** Of all files that were not cancelled. */
export interface Totals {
  files: number;
  filesIn: number;
  bytes: number;
  storedBytes: number;
  /** Those on the wire included. */
  sentBytes: number;
  bytesPerSecond: number;
  paused: number;
  pausable: number;
}

// Each file has several requests in flight already; more at once only helps where files are small.
const FILES_AT_ONCE = 4;
// What many files do in quick succession is drawn once.
const DRAW_MS = 60;
const MOST_TABLES = 40;
export const PAUSABLE: ReadonlySet<ItemState> = new Set(["hashing", "uploading", "offline"]);

/** What needs eyes first: failures, then what moves, then what waits, then what is in. */
const GROUPS = ["failed", "moving", "waiting", "in"] as const;
type Group = (typeof GROUPS)[number];

function groupOf(state: ItemState): Group | null {
  switch (state) {
    case "aborted": return null;
    case "failed": return "failed";
    case "waiting": return "waiting";
    case "assembled": return "in";
    default: return "moving";
  }
}

/**
 * The files of one session that this tab sends. Lives on while other pages are looked at.
 *
 * There may be thousands of them, so that nothing looks at all of them because one has changed: they lie in groups by
 * what becomes of them, and totals are kept, not counted.
 */
export class SessionQueue {
  /** Goes up when files, states or totals have changed; a little later, for all that changed meanwhile. */
  readonly version = signal(0);
  /** Goes up whenever the service knows something new. */
  readonly changes = signal(0);
  /** Those whose first chunk has told what is in them; the first few. */
  readonly tables = signal<readonly Item[]>([]);
  readonly #byName = new Map<string, Item>();
  readonly #groups: Readonly<Record<Group, Set<Item>>> = { failed: new Set(), moving: new Set(), waiting: new Set(), in: new Set() };
  #bytes = 0;
  #bytesIn = 0;
  #nextKey = 1;
  #adding = 0;
  #willDraw = false;

  constructor(readonly sessionId: string) {}

  /** Whether something would be lost if this tab were closed now. */
  get isLive(): boolean {
    return this.#adding + this.#groups.waiting.size + this.#groups.moving.size > 0;
  }

  /** Files that were not cancelled. */
  get size(): number {
    return GROUPS.reduce((sum, group) => sum + this.#groups[group].size, 0);
  }

  get totals(): Totals {
    const { moving, in: done } = this.#groups;
    const totals = { files: this.size, filesIn: done.size, bytes: this.#bytes, storedBytes: this.#bytesIn, sentBytes: this.#bytesIn, bytesPerSecond: 0, paused: 0, pausable: 0 };
    for (const { state, progress, file } of moving) {
      const stored = state.value === "assembling" ? file.size : (progress.value?.storedBytes ?? 0);
      totals.storedBytes += stored;
      totals.sentBytes += Math.max(stored, progress.value?.sentBytes ?? 0);
      if (state.value === "uploading") totals.bytesPerSecond += progress.value?.bytesPerSecond ?? 0;
      if (state.value === "paused") totals.paused += 1;
      if (PAUSABLE.has(state.value)) totals.pausable += 1;
    }
    return totals;
  }

  /** The file of this name that was not cancelled. */
  find(name: string): Item | undefined {
    return this.#byName.get(name);
  }

  /**
   * Return what is to be shown, and how many more there are.
   *
   * @param isListed - whether a file that is in is shown elsewhere
   */
  first(most: number, isListed: (name: string) => boolean): { items: readonly Item[]; rest: number } {
    const items: Item[] = [];
    let rest = 0;
    for (const group of GROUPS) {
      if (group !== "in" && items.length >= most) {
        rest += this.#groups[group].size;
        continue;
      }
      for (const item of this.#groups[group]) {
        if (group === "in" && isListed(item.name)) continue;
        if (items.length < most) items.push(item);
        else rest += 1;
      }
    }
    // A list that is seen whole keeps its order.
    return { items: rest === 0 ? items.sort((a, b) => a.key - b.key) : items, rest };
  }

  /** Take over files, those on their way already excepted. */
  async add(files: readonly Dropped[]): Promise<void> {
    const slices = new Slices();
    this.#adding += 1;
    for (const { file, path } of files) {
      // A slash is no part of a file's name in the bucket.
      const name = path.replaceAll("/", " - ");
      const before = this.#byName.get(name);
      const group = before && groupOf(before.state.value);
      if (group === "waiting" || group === "moving") continue;
      if (before) this.forget(before);
      const item: Item = {
        key: this.#nextKey++,
        name,
        file,
        state: signal<ItemState>("waiting"),
        progress: signal<TaskProgress | null>(null),
        table: signal<Table | null>(null),
        rows: signal<string[][]>([]),
        nRows: signal<number | null>(null),
        error: signal<unknown>(null),
        task: null,
      };
      this.#byName.set(name, item);
      this.#groups.waiting.add(item);
      this.#bytes += file.size;
      if (slices.isOver) {
        this.#startNext();
        this.#draw();
        await slices.next();
      }
    }
    this.#adding -= 1;
    this.#startNext();
    this.#draw();
  }

  pause(item: Item): void {
    item.task?.pause();
  }

  resume(item: Item): void {
    item.task?.resume();
  }

  async cancel(item: Item): Promise<void> {
    const { task } = item;
    if (task) await task.cancel();
    else this.#become(item, "aborted");
    this.changes.value += 1;
  }

  retry(item: Item): void {
    item.error.value = null;
    item.task = null;
    this.#become(item, "waiting");
    this.#startNext();
  }

  pauseAll(): void {
    for (const item of this.#groups.moving) if (PAUSABLE.has(item.state.value)) this.pause(item);
  }

  resumeAll(): void {
    for (const item of this.#groups.moving) if (item.state.value === "paused") this.resume(item);
  }

  async cancelAll(): Promise<void> {
    // First those that wait: none of them shall begin because another has ended.
    for (const item of [...this.#groups.waiting]) this.#become(item, "aborted");
    const moving = [...this.#groups.moving].filter(({ state }) => state.value !== "assembling");
    await Promise.allSettled(moving.map(({ task }) => task?.cancel()));
    this.changes.value += 1;
  }

  /** Let go of a file that has ended. */
  forget(item: Item): void {
    this.#become(item, "aborted");
  }

  #become(item: Item, state: ItemState): void {
    const [before, after] = [groupOf(item.state.value), groupOf(state)];
    item.state.value = state;
    this.#draw();
    if (before === after) return;
    if (before) this.#groups[before].delete(item);
    if (after) this.#groups[after].add(item);
    const { size } = item.file;
    this.#bytes += size * (Number(after !== null) - Number(before !== null));
    this.#bytesIn += size * (Number(after === "in") - Number(before === "in"));
    if (after !== null) return;
    if (this.#byName.get(item.name) === item) this.#byName.delete(item.name);
    if (item.table.value) this.tables.value = this.tables.value.filter((other) => other !== item);
  }

  #draw(): void {
    if (this.#willDraw) return;
    this.#willDraw = true;
    setTimeout(() => {
      this.#willDraw = false;
      this.version.value += 1;
    }, DRAW_MS);
  }

  #startNext(): void {
    for (const item of this.#groups.waiting) {
      if (this.#groups.moving.size >= FILES_AT_ONCE) return;
      void this.#send(item);
    }
  }

  async #send(item: Item): Promise<void> {
    const wish = { sessionId: this.sessionId, fileName: item.name, ...(item.file.type ? { contentType: item.file.type } : {}) };
    try {
      const task = service().uploads.start(item.file, wish);
      item.task = task;
      this.#become(item, task.state);
      this.#follow(item, task);
      const upload = await task.done;
      item.nRows.value = upload.nRows;
      this.#become(item, "assembled");
    } catch (error) {
      const isCancelled = error instanceof TrainshedError && error.code === "cancelled";
      item.error.value = isCancelled ? null : error;
      this.#become(item, isCancelled ? "aborted" : "failed");
    } finally {
      this.changes.value += 1;
      this.#startNext();
    }
  }

  #follow(item: Item, task: UploadTask): void {
    task.on("state", (state) => {
      // The end is told by `done`, together with what came out.
      if (groupOf(state) === "moving") this.#become(item, state);
    });
    task.on("progress", (progress) => {
      item.progress.value = progress;
      this.#draw();
    });
    task.on("table", (table) => {
      item.table.value = table;
      if (table.problem || this.tables.value.length >= MOST_TABLES || this.tables.value.includes(item)) return;
      this.tables.value = [...this.tables.value, item].sort((a, b) => a.key - b.key);
      void firstRows(item.file, table).then((rows) => {
        item.rows.value = rows;
      });
    });
  }
}

const queues = new Map<string, SessionQueue>();

/** The queue of a session, the same as long as the page lives. */
export function queueOf(sessionId: string): SessionQueue {
  let queue = queues.get(sessionId);
  if (!queue) {
    queue = new SessionQueue(sessionId);
    queues.set(sessionId, queue);
  }
  return queue;
}

// Leaving now would stop what is being sent; the browser asks.
addEventListener("beforeunload", (event) => {
  if ([...queues.values()].some((queue) => queue.isLive)) event.preventDefault();
});
