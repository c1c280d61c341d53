import { bucketFault } from "../cors.js";
import { TrainshedError } from "../errors.js";
import type { SignedChunk } from "../types.js";
import { isOffline, retryAfterMs, waitMs } from "../waiting.js";
import { Concurrency } from "./concurrency.js";
import type { ChunkPlan } from "./plan.js";
import type { Put, PutAnswer } from "./put.js";

/** What a sender needs of the upload it works for. */
export interface Sending {
  plan: ChunkPlan;
  file: Blob;
  /** What the server asks for, to begin with. */
  concurrency: number;
  /** Never more at once than this. */
  mostConcurrency?: number | undefined;
  put: Put;
  fetch: typeof fetch;
  /** crc32c of a chunk of the file, as first read. */
  crc32c(index: number): Promise<string>;
  /** crc32c of a chunk of the file, read again. */
  crc32cAgain(index: number): Promise<string>;
  sign(chunks: { index: number; crc32c: string }[]): Promise<SignedChunk[]>;
  /** Which chunks the bucket holds now. */
  present(): Promise<Iterable<number>>;
  onStored(index: number): void;
  onSent(index: number, bytes: number): void;
  /** The bucket cannot be reached, or can be again. */
  onOffline(isOffline: boolean): void;
}

const MOST_SIGNED_PER_CALL = 128;
/** Chunks that are read or signed ahead, per request slot: what is more than one slot's worth is signed in one call. */
const AHEAD = 4;
// A signature is refused at most that often in a row before we believe that it is not a matter of time.
const MOST_SIGNATURES = 4;
const MOST_TRIES = 8;
// Networks drop single connections; two failures with nothing between them are more than that.
const FAILURES_TO_BE_OFFLINE = 2;
/** Without any answer for this long, an upload whose browser believes to be online fails; its chunks stay [ms]. */
const UNREACHABLE_MS = 30 * 60_000;

interface Chunk {
  index: number;
  crc32c: string;
  signed: SignedChunk | null;
  signatures: number;
  failures: number;
  notBefore: number;
}

/** Sends chunks: hashes ahead, signs what is hashed, keeps as many requests in flight as pay off, repeats what fails. */
export class Sender {
  readonly #of: Sending;
  readonly #concurrency: Concurrency;
  readonly #unread: number[];
  #nHashing = 0;
  #hashed: Chunk[] = [];
  #signed: Chunk[] = [];
  readonly #inFlight = new Map<number, AbortController>();
  #nLeft: number;
  #isSigning = false;
  #isPaused = false;
  #hasEnded = false;
  #wasAnswered = false;
  #failuresInARow = 0;
  #unreachableSince: number | null = null;
  #isLooking = false;
  #holdUntil = 0;
  /** The bucket has asked for it: holds whatever else changes. */
  #busyUntil = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;
  readonly done: Promise<void>;

  constructor(sending: Sending, missing: Iterable<number>) {
    this.#of = sending;
    this.#unread = [...missing];
    this.#nLeft = this.#unread.length;
    this.#concurrency = new Concurrency(sending.concurrency, Date.now(), sending.mostConcurrency);
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever waits sees the failure; nobody has to.
    this.done.catch(() => undefined);
  }

  get concurrency(): number {
    return this.#concurrency.limit;
  }

  start(): void {
    if (typeof globalThis.addEventListener === "function") {
      globalThis.addEventListener("online", this.#onOnline);
      globalThis.addEventListener("offline", this.#onOffline);
    }
    this.#pump();
  }

  /** Stop what is in flight; what was stored stays. */
  pause(): void {
    this.#isPaused = true;
    this.#stopAll();
  }

  resume(): void {
    this.#isPaused = false;
    this.#holdUntil = 0;
    this.#concurrency.restart(Date.now());
    this.#pump();
  }

  /** End for good; `done` stays open if nothing failed. */
  stop(error?: unknown): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    if (typeof globalThis.removeEventListener === "function") {
      globalThis.removeEventListener("online", this.#onOnline);
      globalThis.removeEventListener("offline", this.#onOffline);
    }
    this.#stopAll();
    if (error !== undefined) this.#reject(error);
  }

  readonly #onOnline = (): void => {
    this.#holdUntil = 0;
    // How long the bucket does not answer counts from when it could.
    if (this.#unreachableSince !== null) this.#unreachableSince = Date.now();
    this.#pump();
  };

  /** Say so at once: what is in flight may be silent for long, and nothing new is begun that could fail. */
  readonly #onOffline = (): void => {
    this.#unreachableSince ??= Date.now();
    this.#of.onOffline(true);
  };

  #stopAll(): void {
    for (const controller of this.#inFlight.values()) controller.abort();
  }

  /** Do whatever can be done now. Called after everything that happens. */
  #pump(): void {
    if (this.#hasEnded) return;
    if (this.#nLeft === 0) {
      this.stop();
      this.#resolve();
      return;
    }
    if (this.#isPaused) return;
    const now = Date.now();
    const limit = this.#unreachableSince === null ? this.#concurrency.limit : 1;
    clearTimeout(this.#timer);
    if (isOffline()) {
      this.#onOffline();
      return;
    }
    const heldUntil = Math.max(this.#holdUntil, this.#busyUntil);
    if (now < heldUntil) {
      this.#wakeIn(heldUntil - now);
      return;
    }
    let soonest = Infinity;
    const waiting: Chunk[] = [];
    for (const chunk of this.#signed) {
      if (this.#inFlight.size >= limit) waiting.push(chunk);
      else if (chunk.notBefore > now) {
        soonest = Math.min(soonest, chunk.notBefore);
        waiting.push(chunk);
      } else void this.#send(chunk);
    }
    this.#signed = waiting;
    if (soonest < Infinity) this.#wakeIn(soonest - now);
    // As many wait as are sent, so that no request slot waits for a signature.
    if (!this.#isSigning && this.#hashed.length > 0 && this.#signed.length < limit) void this.#sign();
    const ahead = this.#nHashing + this.#hashed.length + this.#signed.length;
    for (let n = ahead; n < AHEAD * limit && this.#unread.length > 0; n += 1) void this.#hash(this.#unread.shift()!);
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#pump(), ms);
  }

  async #hash(index: number): Promise<void> {
    this.#nHashing += 1;
    try {
      const crc32c = await this.#of.crc32c(index);
      this.#hashed.push({ index, crc32c, signed: null, signatures: 0, failures: 0, notBefore: 0 });
    } catch (error) {
      this.stop(error);
    }
    this.#nHashing -= 1;
    this.#pump();
  }

  async #sign(): Promise<void> {
    const chunks = this.#hashed.splice(0, MOST_SIGNED_PER_CALL);
    this.#isSigning = true;
    try {
      const signed = await this.#of.sign(chunks.map(({ index, crc32c }) => ({ index, crc32c })));
      const byIndex = new Map(signed.map((one) => [one.index, one]));
      for (const chunk of chunks) chunk.signed = byIndex.get(chunk.index) ?? null;
      if (chunks.some((chunk) => !chunk.signed)) {
        throw new TrainshedError("unexpected_answer", "The server did not sign every chunk it was asked for.");
      }
      // One that is to be sent again comes first: the others behind it are not older.
      this.#signed.push(...chunks);
    } catch (error) {
      this.stop(error);
    }
    this.#isSigning = false;
    this.#pump();
  }

  async #send(chunk: Chunk): Promise<void> {
    const { plan, file, put } = this.#of;
    const { index } = chunk;
    const controller = new AbortController();
    this.#inFlight.set(index, controller);
    let answer: PutAnswer | null = null;
    try {
      answer = await put(chunk.signed!, plan.slice(file, index), controller.signal, (bytes) => this.#of.onSent(index, bytes));
    } catch (error) {
      // Otherwise it was paused or stopped.
      if (!controller.signal.aborted) this.stop(error);
    }
    this.#inFlight.delete(index);
    if (answer && isStored(answer)) {
      this.#answered();
      this.#concurrency.stored(plan.bytes(index), Date.now());
      this.#stored(index);
      if (answer.status === 412) void this.#lookAround();
    } else {
      this.#of.onSent(index, 0);
      if (this.#hasEnded) return;
      try {
        if (answer) await this.#judge(chunk, answer);
        else this.#signed.unshift(chunk);
      } catch (error) {
        this.stop(error);
      }
    }
    this.#pump();
  }

  #stored(index: number): void {
    this.#nLeft -= 1;
    this.#of.onStored(index);
  }

  /** Decide what becomes of a chunk that was not stored. */
  async #judge(chunk: Chunk, answer: PutAnswer): Promise<void> {
    const { index } = chunk;
    const reason = `${answer.status} ${answer.code}`.trim();
    if (answer.status === 0) {
      await this.#noAnswer(chunk);
      this.#signed.unshift(chunk);
      return;
    }
    this.#answered();
    if (answer.status === 403 || answer.code === "ExpiredToken") {
      chunk.signatures += 1;
      if (chunk.signatures >= MOST_SIGNATURES) {
        throw new TrainshedError("chunk_refused", `The bucket refuses the signature of chunk ${index} (${reason}).`, {
          status: answer.status,
          details: { index },
        });
      }
      this.#hashed.unshift(chunk);
      return;
    }
    if (DAMAGED_CODES.has(answer.code)) {
      if ((await this.#of.crc32cAgain(index)) !== chunk.crc32c) {
        throw new TrainshedError("file_changed", "The file was changed while it was uploaded.", { details: { index } });
      }
    } else if (!PASSING_STATUSES.has(answer.status)) {
      throw new TrainshedError("chunk_refused", `The bucket refuses chunk ${index} (${reason}).`, {
        status: answer.status,
        details: { index },
      });
    }
    chunk.failures += 1;
    if (chunk.failures >= MOST_TRIES) {
      throw new TrainshedError("chunk_refused", `Chunk ${index} could not be stored in ${chunk.failures} tries (${reason}).`, {
        status: answer.status,
        retryable: true,
        details: { index },
      });
    }
    const now = Date.now();
    const asked = retryAfterMs(answer.retryAfter);
    if (BUSY_STATUSES.has(answer.status)) {
      this.#concurrency.busy(now);
      // What it says of one request holds for all of them.
      if (asked !== null) this.#busyUntil = Math.max(this.#busyUntil, now + asked);
    }
    chunk.notBefore = now + waitMs(chunk.failures, asked);
    this.#signed.push(chunk);
  }

  /** A request ended without an answer: a page that may not look, a file that is gone, or no network. */
  async #noAnswer(chunk: Chunk): Promise<void> {
    const now = Date.now();
    if (this.#unreachableSince === null || now >= this.#holdUntil) {
      this.#failuresInARow += 1;
      this.#holdUntil = now + waitMs(this.#failuresInARow);
    }
    if (!isOffline()) {
      // Reading fails at once where the file was moved or changed.
      await this.#readable(chunk);
      if (!this.#wasAnswered) await this.#checkCors(chunk);
    }
    if (this.#unreachableSince === null) this.#unreachableSince = now;
    if (!isOffline() && now - this.#unreachableSince > UNREACHABLE_MS) {
      throw new TrainshedError("unreachable", "The bucket does not answer.", { retryable: true });
    }
    if (isOffline() || this.#failuresInARow >= FAILURES_TO_BE_OFFLINE) this.#of.onOffline(true);
  }

  async #readable({ index }: Chunk): Promise<void> {
    const { plan, file } = this.#of;
    try {
      await plan.slice(file, index).slice(0, 1).arrayBuffer();
    } catch (cause) {
      throw new TrainshedError("file_unreadable", "The file was changed, moved or deleted while it was uploaded.", { cause });
    }
  }

  async #checkCors({ signed }: Chunk): Promise<void> {
    const { url, method, headers } = signed!;
    const fault = await bucketFault(this.#of.fetch, url, method, Object.keys(headers));
    if (fault) throw new TrainshedError("cors", fault);
  }

  #answered(): void {
    this.#wasAnswered = true;
    this.#failuresInARow = 0;
    if (this.#unreachableSince === null) return;
    this.#unreachableSince = null;
    this.#holdUntil = 0;
    this.#concurrency.restart(Date.now());
    this.#of.onOffline(false);
  }

  /** Somebody else sends this file, too: leave out what is there by now. */
  async #lookAround(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const present = new Set(await this.#of.present());
      const isThere = ({ index }: { index: number }): boolean => present.has(index);
      for (const index of this.#unread.filter((one) => present.has(one))) this.#stored(index);
      for (const { index } of [...this.#hashed, ...this.#signed].filter(isThere)) this.#stored(index);
      const left = this.#unread.filter((index) => !present.has(index));
      this.#unread.splice(0, this.#unread.length, ...left);
      this.#hashed = this.#hashed.filter((chunk) => !isThere(chunk));
      this.#signed = this.#signed.filter((chunk) => !isThere(chunk));
    } catch {
      // Only a saving: the bucket's next answers say the same.
    }
    this.#isLooking = false;
    this.#pump();
  }
}

// Cloud Storage's codes for "these are not the bytes you announced":
// https://cloud.google.com/storage/docs/xml-api/reference-status
const DAMAGED_CODES = new Set(["BadDigest", "CrcMismatch", "InvalidDigest"]);
const BUSY_STATUSES = new Set([429, 503]);
const PASSING_STATUSES = new Set([408, 429, 500, 502, 503, 504]);

/** 412: the chunk is there already, by a request whose answer was lost or by somebody else. */
function isStored({ status }: PutAnswer): boolean {
  return (status >= 200 && status < 300) || status === 412;
}
