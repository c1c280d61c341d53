/** Files as people bring them: chosen, dropped, in folders within folders. */

import { Slices } from "./slices";

export interface Dropped {
  file: File;
  /** With the folders it lay in: `readings/2024/june.csv`; of a single file its name. */
  path: string;
}

/** The files of a list as they are now; it may be emptied while we are at it. */
export async function chosen(list: FileList | null): Promise<Dropped[]> {
  const slices = new Slices();
  const files: Dropped[] = [];
  for (const file of Array.from(list ?? [])) {
    files.push({ file, path: file.webkitRelativePath || file.name });
    if (slices.isOver) await slices.next();
  }
  return sorted(files, slices);
}

/**
 * Read everything that was dropped, folders with all that is in them.
 *
 * The entries must be taken before the first wait: afterwards the browser has forgotten them.
 */
export async function dropped(transfer: DataTransfer): Promise<Dropped[]> {
  const entries = Array.from(transfer.items, (item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  if (entries.every((entry) => entry === null)) return chosen(transfer.files);
  const found: Dropped[] = [];
  for (const entry of entries) if (entry) await collect(entry, found);
  return sorted(found, new Slices());
}

/** Something that was dropped lies where the browser may not look, or is gone. */
class UnreadableError extends Error {}

async function collect(entry: FileSystemEntry, found: Dropped[]): Promise<void> {
  const failed = (reject: (error: Error) => void) => (cause: DOMException) =>
    reject(new UnreadableError(`The browser cannot read “${entry.fullPath.replace(/^\//, "")}”: ${cause.message}`, { cause }));
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, failed(reject)));
    found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A call answers at most 100 of them.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, failed(reject)));
    if (some.length === 0) return;
    for (const inner of some) await collect(inner, found);
  }
}

const { compare } = new Intl.Collator("en", { numeric: true });
const RUN = 64;

/**
 * Sort by path; browsers give the files of a folder in the order in which the disk has them.
 *
 * A merge sort, because it can stop anywhere: thousands of names take the built-in one longer than a page may stand still.
 */
export async function sorted(files: readonly Dropped[], slices: Slices): Promise<Dropped[]> {
  let runs: Dropped[][] = [];
  for (let at = 0; at < files.length; at += RUN) {
    runs.push(files.slice(at, at + RUN).sort((a, b) => compare(a.path, b.path)));
    if (slices.isOver) await slices.next();
  }
  while (runs.length > 1) {
    const merged: Dropped[][] = [];
    for (let n = 0; n < runs.length; n += 2) merged.push(await merge(runs[n] ?? [], runs[n + 1] ?? [], slices));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge(left: readonly Dropped[], right: readonly Dropped[], slices: Slices): Promise<Dropped[]> {
  const merged: Dropped[] = [];
  let [l, r] = [0, 0];
  for (;;) {
    const [a, b] = [left[l], right[r]];
    if (!a || !b) return merged.concat(left.slice(l), right.slice(r));
    if (compare(a.path, b.path) <= 0) {
      merged.push(a);
      l += 1;
    } else {
      merged.push(b);
      r += 1;
    }
    if (slices.isOver) await slices.next();
  }
}

/** Names of files that the system puts beside a person's. */
const CLUTTER: ReadonlySet<string> = new Set([".DS_Store", "Thumbs.db", "desktop.ini"]);

/** What a person brought, without what the system put there; where nothing is left, why. */
export async function sift(brought: Promise<readonly Dropped[]>): Promise<{ files: Dropped[]; why: string | null }> {
  let found: readonly Dropped[];
  try {
    found = await brought;
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    return { files: [], why: error.message };
  }
  const files = found.filter(({ file }) => !CLUTTER.has(file.name));
  if (files.length > 0) return { files, why: null };
  const names = [...new Set(found.map(({ file }) => file.name))].sort();
  return { files, why: names.length > 0 ? `It holds only files that the system keeps for itself (${names.join(", ")}).` : "It holds no files." };
}
