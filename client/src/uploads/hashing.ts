import { TrainshedError, cancelledError } from "../errors.js";
import { extend, textOf } from "./crc32c.js";

/** Which checksum: `crc32c` in base64 as Cloud Storage writes it, `sha256` in lower-case hex. */
export type HashKind = "crc32c" | "sha256";

export interface HashQuestion {
  id: number;
  kind: HashKind;
  blob: Blob;
}

export type HashAnswer = { id: number; text: string } | { id: number; error: string };

// Each read of a file costs a browser several messages between its processes: in pieces of 8 MiB it uses two thirds of the CPU time.
const PIECE_BYTES = 8 << 20;
// Summing one takes a millisecond or few: a page can draw between two.
const PAGE_PIECE_BYTES = 1 << 20;

/** Read a blob piece by piece; the next piece is on its way while one is worked on. */
export async function* pieces(blob: Blob, pieceBytes = PIECE_BYTES): AsyncGenerator<Uint8Array> {
  const read = (from: number): Promise<ArrayBuffer> | null =>
    from < blob.size ? blob.slice(from, from + pieceBytes).arrayBuffer() : null;
  let next = read(0);
  for (let from = pieceBytes; next; from += pieceBytes) {
    const piece = await next;
    next = read(from);
    // Nobody waits for it yet; a failure is seen when somebody does.
    next?.catch(() => undefined);
    yield new Uint8Array(piece);
  }
}

/** Return the crc32c of a blob. */
export async function crc32cOf(blob: Blob, pieceBytes = PIECE_BYTES): Promise<string> {
  let sum = 0;
  for await (const piece of pieces(blob, pieceBytes)) sum = extend(sum, piece);
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
  hash(kind: HashKind, blob: Blob, signal: AbortSignal): Promise<string> {
    if (signal.aborted) return Promise.reject(cancelledError(signal));
    this.#lastId += 1;
    const question = { id: this.#lastId, kind, blob };
    let stop: (() => void) | undefined;
    const hashed = new Promise<string>((resolve, reject) => {
      stop = () => reject(cancelledError(signal));
      signal.addEventListener("abort", stop);
      this.#waiting.set(question.id, { question, resolve, reject });
      this.#ask(question);
    });
    return hashed.finally(() => signal.removeEventListener("abort", stop!));
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

  async #hashHere({ id, kind, blob }: HashQuestion): Promise<void> {
    try {
      this.#take({ id, text: kind === "sha256" ? await sha256InNode(blob) : await crc32cOf(blob, PAGE_PIECE_BYTES) });
    } catch (error) {
      this.#take({ id, error: error instanceof Error ? error.message : String(error) });
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

async function sha256InNode(blob: Blob): Promise<string> {
  const crypto = globalThis.process?.getBuiltinModule?.("node:crypto");
  if (!crypto) throw new Error("a worker is needed for the sha256 of a file, and none could be started");
  const hash = crypto.createHash("sha256");
  for await (const piece of pieces(blob, PAGE_PIECE_BYTES)) hash.update(piece);
  return hash.digest("hex");
}
