import { TrainshedError, cancelledError } from "../errors.js";
import { extend, textOf } from "./crc32c.js";
import { Reading, type FileRange } from "./reading.js";

/** Which checksum: `crc32c` in base64 as Cloud Storage writes it, `sha256` in lower-case hex. */
export type HashKind = "crc32c" | "sha256";

export interface HashQuestion extends FileRange {
  id: number;
  kind: HashKind;
  /** Which file: a worker gets a copy of what stands for it with each question. */
  source: number;
}

export type HashAnswer = { id: number; text: string } | { id: number; error: string };

// Summing one takes a millisecond or few: a page can draw between two.
const PAGE_PIECE_BYTES = 1 << 20;

/** Return the crc32c of pieces that follow each other. */
export async function crc32cOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  let sum = 0;
  for await (const piece of pieces) sum = extend(sum, piece);
  return textOf(sum);
}

/**
 * Computes checksums in a worker. Where none can be had (Node, a content security policy that forbids it, a bundler that lost
 * the file), they are computed here in small pieces, between which everything else goes on. Node's own worker threads will not
 * do: reading a file's Blob in one ends the process (seen with Node 20).
 */
export class Hasher {
  #worker: Worker | null = null;
  #isLost = typeof Worker === "undefined";
  #lastId = 0;
  #users = 0;
  #lastSource = 0;
  readonly #sources = new WeakMap<Blob, number>();
  readonly #waiting = new Map<
    number,
    { question: HashQuestion; resolve: (text: string) => void; reject: (error: unknown) => void }
  >();

  /** Keep the worker until `release`. */
  retain(): void {
    this.#users += 1;
  }

  release(): void {
    this.#users -= 1;
    if (this.#users > 0) return;
    this.#worker?.terminate();
    this.#worker = null;
    // Nobody waits for what it was still asked.
    this.#waiting.clear();
  }

  /**
   * @throws TrainshedError - `file_unreadable`
   */
  hash(kind: HashKind, range: FileRange, signal: AbortSignal): Promise<string> {
    if (signal.aborted) return Promise.reject(cancelledError(signal));
    this.#lastId += 1;
    const question = { id: this.#lastId, kind, source: this.#sourceOf(range.file), ...range };
    let stop: (() => void) | undefined;
    const hashed = new Promise<string>((resolve, reject) => {
      stop = () => reject(cancelledError(signal));
      signal.addEventListener("abort", stop);
      this.#waiting.set(question.id, { question, resolve, reject });
      this.#ask(question);
    });
    return hashed.finally(() => signal.removeEventListener("abort", stop!));
  }

  #sourceOf(file: Blob): number {
    const source = this.#sources.get(file) ?? (this.#lastSource += 1);
    this.#sources.set(file, source);
    return source;
  }

  #ask(question: HashQuestion): void {
    if (!this.#isLost && !this.#worker) {
      try {
        this.#worker = startWorker(
          (answer) => this.#take(answer),
          () => this.#lose(),
        );
      } catch {
        this.#isLost = true;
      }
    }
    if (this.#worker) this.#worker.postMessage(question);
    else void this.#hashHere(question);
  }

  #take(answer: HashAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (!waiting) return;
    if ("text" in answer) waiting.resolve(answer.text);
    else waiting.reject(unreadable(answer.error));
  }

  #lose(): void {
    this.#isLost = true;
    this.#worker?.terminate();
    this.#worker = null;
    for (const { question } of this.#waiting.values()) void this.#hashHere(question);
  }

  async #hashHere({ id, kind, file, from, to }: HashQuestion): Promise<void> {
    // Of its own: others are read meanwhile.
    const reading = new Reading(file, PAGE_PIECE_BYTES);
    const pieces = reading.pieces(from, to);
    try {
      this.#take({ id, text: kind === "sha256" ? await sha256InNode(pieces) : await crc32cOf(pieces) });
    } catch (error) {
      this.#take({ id, error: error instanceof Error ? error.message : String(error) });
    } finally {
      reading.close();
    }
  }
}

function unreadable(reason: string): TrainshedError {
  return new TrainshedError("file_unreadable", `The file cannot be read any more: ${reason}`);
}

function startWorker(take: (answer: HashAnswer) => void, lose: () => void): Worker {
  const worker = new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module", name: "trainshed-hash" });
  worker.onmessage = (event: MessageEvent<HashAnswer>) => take(event.data);
  worker.onerror = (event) => {
    event.preventDefault();
    lose();
  };
  return worker;
}

async function sha256InNode(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const crypto = globalThis.process?.getBuiltinModule?.("node:crypto");
  if (!crypto) throw new Error("a worker is needed for the sha256 of a file, and none could be started");
  const hash = crypto.createHash("sha256");
  for await (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}
