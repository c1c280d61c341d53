import { TrainshedError, cancelledError } from "../errors.js";
import type { Http } from "../http.js";
import type { NewUpload, SignedChunks, Table, Upload, UploadProgress } from "../types.js";
import { isOffline, online, pause, waitMs } from "../waiting.js";
import { Hasher, type HashKind } from "./hashing.js";
import { ChunkPlan } from "./plan.js";
import { putFor } from "./put.js";
import { Rate } from "./rate.js";
import { Sender } from "./sender.js";

/**
 * - `hashing`: the file is compared with what the bucket holds, or summed up before anything is sent
 * - `uploading`, `paused`, `offline` (waits for the network), `assembling`
 * - `assembled`, `failed`, `aborted`: the end
 */
export type TaskState =
  | "hashing"
  | "uploading"
  | "paused"
  | "offline"
  | "assembling"
  | "assembled"
  | "failed"
  | "aborted";

type Phase = Exclude<TaskState, "paused" | "offline">;

export interface TaskProgress {
  /** Bytes that have left this machine, those of unfinished chunks included. */
  sentBytes: number;
  /** Bytes that the bucket has said it holds. */
  storedBytes: number;
  totalBytes: number;
  /** Over the last seconds; null while nothing can be said. */
  bytesPerSecond: number | null;
  remainingSeconds: number | null;
  chunks: { stored: number; total: number };
  /** While the chunks are put together: how much of the whole the service has read again; null before it has said so. */
  verifiedBytes: number | null;
  /** Requests at once at this time. */
  concurrency: number;
}

export interface TaskEvents {
  state: TaskState;
  progress: TaskProgress;
  /** The upload's record, once there is one: keep its `uploadId` to resume by it. */
  upload: Upload;
  /** What the first chunk says of a table. */
  table: Table;
  /** The service takes no token of `getToken` any more. The task is paused; sign in, then call `resume()`. */
  unauthenticated: TrainshedError;
}

export interface UploadOptions {
  sessionId: string;
  /** Of the file, if it has none or is to have another. */
  fileName?: string;
  /** Continue this upload, and no other; else the session's open upload of the same name and size goes on. */
  uploadId?: string;
  /** Default: what the browser says of the file. */
  contentType?: string;
  /** The file's sha256 in hex, or true to have it computed first: a file that the owner has uploaded before is then not sent again. */
  sha256?: string | true;
  /** A wish; the service chooses [bytes]. */
  chunkSize?: number;
  /** Requests at once, at most. */
  mostConcurrency?: number;
  /** Stops the task as closing the page would: what is stored stays, and the upload can be resumed. */
  signal?: AbortSignal;
}

/** https://cloud.google.com/storage/quotas */
const LARGEST_FILE_BYTES = 5 * 2 ** 40;
const PROGRESS_EVERY_MS = 100;
// Chunks may be swept or lost between two looks at the bucket; a third time it is no accident.
const ROUNDS = 3;
const UNREACHABLE_MS = 30 * 60_000;
// The service says anew how far an assembly is every two seconds (REPORT_EVERY_S in shared/assembly.py).
const WATCH_EVERY_MS = 2000;

const hasher = new Hasher();

/** One file on its way. Made by `uploads.start`. */
export class UploadTask {
  /** Resolves with the assembled upload; rejects with a {@link TrainshedError}. */
  readonly done: Promise<Upload>;
  readonly file: Blob;
  readonly fileName: string;
  readonly sessionId: string;

  readonly #http: Http;
  readonly #options: UploadOptions;
  readonly #ended = new AbortController();
  readonly #listeners: { [Name in keyof TaskEvents]: Set<(value: TaskEvents[Name]) => void> } = {
    state: new Set(),
    progress: new Set(),
    upload: new Set(),
    table: new Set(),
    unauthenticated: new Set(),
  };
  readonly #local = new Map<number, Promise<string>>();
  readonly #stored = new Set<number>();
  readonly #sent = new Map<number, number>();
  readonly #rate = new Rate();
  #phase: Phase = "hashing";
  #isPaused = false;
  #resumes = 0;
  #isOffline = false;
  #toldState: TaskState = "hashing";
  #upload: Upload | null = null;
  #plan: ChunkPlan | null = null;
  #table: Table | null = null;
  #error: TrainshedError | null = null;
  #sender: Sender | null = null;
  #storedBytes = 0;
  #verifiedBytes: number | null = null;
  #resumed: (() => void)[] = [];
  #progressTimer: ReturnType<typeof setTimeout> | undefined;
  #toldAt = 0;

  constructor(http: Http, file: Blob, options: UploadOptions) {
    this.#http = http;
    this.file = file;
    this.#options = options;
    this.sessionId = options.sessionId;
    this.fileName = options.fileName ?? ("name" in file && typeof file.name === "string" ? file.name : "");
    const { signal } = options;
    const stop = (): void => this.#end("aborted", cancelledError(signal));
    hasher.retain();
    // Begins after the caller has had the time to listen.
    this.done = Promise.resolve()
      .then(() => {
        if (signal?.aborted) stop();
        else signal?.addEventListener("abort", stop, { once: true });
        return this.#run();
      })
      .catch((reason: unknown) => {
        const error = reason instanceof TrainshedError ? reason : new TrainshedError("unexpected_answer", String(reason), { cause: reason });
        this.#end(this.#error || error.code === "cancelled" ? "aborted" : "failed", error);
        throw this.#error;
      })
      .finally(() => {
        signal?.removeEventListener("abort", stop);
        this.#sender?.stop();
        clearTimeout(this.#progressTimer);
        hasher.release();
      });
    // The state says it as well; nobody has to wait for the promise.
    this.done.catch(() => undefined);
  }

  get state(): TaskState {
    if (this.#hasEnded) return this.#phase;
    if (this.#isPaused) return "paused";
    return this.#isOffline ? "offline" : this.#phase;
  }

  /** Why it failed. */
  get error(): TrainshedError | null {
    return this.#error;
  }

  get uploadId(): string | null {
    return this.#upload?.uploadId ?? null;
  }

  get upload(): Upload | null {
    return this.#upload;
  }

  /** What the first chunk says of a table: known as soon as the bucket has it. */
  get table(): Table | null {
    return this.#table;
  }

  get progress(): TaskProgress {
    let underWay = 0;
    for (const bytes of this.#sent.values()) underWay += bytes;
    const sentBytes = this.#storedBytes + underWay;
    const rate = this.state === "uploading" ? this.#rate.bytesPerSecond : null;
    return {
      sentBytes,
      storedBytes: this.#storedBytes,
      totalBytes: this.file.size,
      bytesPerSecond: rate,
      remainingSeconds: rate ? (this.file.size - sentBytes) / rate : null,
      chunks: { stored: this.#stored.size, total: this.#plan?.totalChunks ?? 0 },
      verifiedBytes: this.#verifiedBytes,
      concurrency: this.#sender?.concurrency ?? 0,
    };
  }

  /** Call `listener` whenever something happens; returns the function that ends it. */
  on<Name extends keyof TaskEvents>(name: Name, listener: (value: TaskEvents[Name]) => void): () => void {
    this.#listeners[name].add(listener);
    return () => this.#listeners[name].delete(listener);
  }

  /** Stop sending; what the bucket has stays there. */
  pause(): void {
    if (this.#hasEnded || this.#isPaused) return;
    this.#isPaused = true;
    this.#rate.restart();
    this.#sender?.pause();
    this.#sent.clear();
    this.#tellState();
    this.#tellProgress();
  }

  resume(): void {
    if (this.#hasEnded || !this.#isPaused) return;
    this.#isPaused = false;
    this.#resumes += 1;
    this.#tellState();
    for (const go of this.#resumed.splice(0)) go();
    this.#sender?.resume();
  }

  /** Give the upload up and free its storage. Resolves when that is done, or could not be. */
  async cancel(): Promise<void> {
    if (this.#hasEnded) return;
    this.#end("aborted", cancelledError());
    if (!this.#upload) return;
    try {
      await this.#http.call("abort-upload", { path: { upload_id: this.#upload.uploadId } });
    } catch {
      // It expires by itself, and the cleanup takes what is left.
    }
  }

  get #hasEnded(): boolean {
    return this.#phase === "assembled" || this.#phase === "failed" || this.#phase === "aborted";
  }

  async #run(): Promise<Upload> {
    const upload = await this.#find();
    this.#setUpload(upload);
    const assembled = await this.#finish(upload);
    this.#setUpload(assembled);
    this.#storedBytes = this.file.size;
    this.#tellProgress();
    this.#setPhase("assembled");
    return assembled;
  }

  /** Open the upload, or find the one that was begun. */
  async #find(): Promise<UploadProgress> {
    const { size } = this.file;
    if (size > LARGEST_FILE_BYTES) {
      throw new TrainshedError("too_large", `The file has ${size} bytes; the largest possible is 5 TiB (${LARGEST_FILE_BYTES}).`, {
        details: { limit: LARGEST_FILE_BYTES },
      });
    }
    const begun = this.#options.uploadId ?? (await this.#create());
    if (typeof begun !== "string") return begun;
    const id = begun;
    const upload = await this.#look(id);
    if (upload.sessionId !== this.sessionId) {
      throw new TrainshedError("file_changed", `Upload ${id} belongs to session ${upload.sessionId}.`);
    }
    // Whether it has a plan at all is seen when that is taken over.
    if (upload.size !== null && upload.size !== size) {
      throw new TrainshedError("file_changed", `This file has ${size} bytes; the upload was begun with one of ${upload.size}.`, {
        details: { size, expected: upload.size },
      });
    }
    return upload;
  }

  /** Return the upload, where it was opened just now, or the id of one that was opened before. */
  async #create(): Promise<UploadProgress | string> {
    const { sessionId, chunkSize } = this.#options;
    const contentType = this.#options.contentType ?? this.file.type;
    const sha256 = this.#options.sha256 === true ? await this.#hash("sha256") : this.#options.sha256;
    const wish = {
      sessionId,
      fileName: this.fileName,
      size: this.file.size,
      ...(contentType && { contentType }),
      ...(sha256 && { sha256 }),
      ...(chunkSize && { chunkSize }),
      // Each chunk is signed with its checksum, once that is known.
      presign: 0,
    };
    try {
      const created = await this.#call<NewUpload>("create-upload", { body: wish });
      return created.isNew && created.state === "open" ? nothingSent(created) : created.uploadId;
    } catch (error) {
      const { state, uploadId } = error instanceof TrainshedError && error.code === "file_exists" ? error.details : {};
      // Being assembled or done already: another page, or this one before it was reloaded, got that far.
      if (typeof uploadId === "string" && (state === "assembling" || state === "assembled")) return uploadId;
      throw error;
    }
  }

  /** Bring an upload from whatever state it is in to its end. */
  async #finish(upload: UploadProgress): Promise<Upload> {
    this.#plan = new ChunkPlan(upload);
    for (let round = 0; round < ROUNDS; round += 1) {
      if (upload.state === "assembled") return this.#checkWhole(upload);
      if (upload.state === "open") {
        upload = await this.#complete(upload);
        if (upload.state === "open" && upload.missing.length > 0) continue;
        if (upload.state === "assembled") continue;
      }
      if (upload.state !== "open" && upload.state !== "assembling") {
        throw new TrainshedError("upload_ended", `The upload is ${upload.state}. ${upload.failure?.detail ?? ""}`.trim(), {
          details: { state: upload.state, failure: upload.failure },
        });
      }
      const wasOurs = upload.state === "open";
      try {
        const assembled = await this.#assemble(upload.uploadId);
        return wasOurs ? assembled : await this.#checkWhole(assembled);
      } catch (error) {
        if (!(error instanceof TrainshedError && (error.code === "chunks_missing" || error.code === "wrong_state"))) throw error;
        upload = await this.#look(upload.uploadId);
      }
    }
    if (upload.state === "assembled") return this.#checkWhole(upload);
    throw new TrainshedError("unreachable", "The bucket loses chunks of this upload; try again later.", { retryable: true });
  }

  /** Send what is missing, and look again. */
  async #complete(upload: UploadProgress): Promise<UploadProgress> {
    await this.#compare(upload);
    this.#setPhase("uploading");
    const sender = new Sender(
      {
        plan: this.#plan!,
        file: this.file,
        concurrency: upload.concurrency,
        mostConcurrency: this.#options.mostConcurrency,
        put: putFor(this.#http.givenFetch),
        fetch: this.#http.fetch,
        crc32c: (index) => this.#crc32c(index),
        crc32cAgain: (index) => this.#hashChunk(index),
        sign: async (chunks) => (await this.#call<SignedChunks>("sign-chunks", { path: { upload_id: upload.uploadId }, body: { chunks } })).chunks,
        present: async () => (await this.#look(upload.uploadId)).received.map(({ index }) => index),
        onStored: (index) => this.#takeStored(index),
        onSent: (index, bytes) => this.#takeSent(index, bytes),
        onOffline: (is) => this.#takeOffline(is),
      },
      upload.missing,
    );
    this.#sender = sender;
    sender.start();
    try {
      await this.#orEnded(sender.done);
    } catch (error) {
      // Somebody else has sent the rest and begun to assemble.
      const { code, details } = error as TrainshedError;
      if (code !== "wrong_state" || (details["state"] !== "assembling" && details["state"] !== "assembled")) throw error;
    } finally {
      sender.stop();
      this.#sender = null;
    }
    this.#setPhase("assembling");
    const after = await this.#look(upload.uploadId);
    if (after.state === "open") await this.#compare(after);
    return after;
  }

  /** Hold every chunk of the bucket against the file. */
  async #compare({ received, missing }: UploadProgress): Promise<void> {
    for (const index of missing) this.#forget(index);
    for (const { index, crc32c } of [...received].sort((one, other) => one.index - other.index)) {
      if ((await this.#crc32c(index)) !== crc32c) {
        const from = this.#plan!.offset(index);
        const to = from + this.#plan!.bytes(index) - 1;
        throw new TrainshedError(
          "file_changed",
          `This is not the file that the upload was begun with: chunk ${index} (bytes ${from} to ${to}) differs from what the bucket holds.`,
          { details: { index, from, to } },
        );
      }
      await this.#unpaused();
      this.#takeStored(index);
    }
  }

  /** Hold an assembled object against the file. */
  async #checkWhole(upload: Upload): Promise<Upload> {
    // Where the service knew the sha256 that we have declared, the bytes are the same.
    if (this.#options.sha256 === undefined && (await this.#hash("crc32c")) !== upload.crc32c) {
      throw new TrainshedError("file_changed", "The session has another file of this name.", { details: { uploadId: upload.uploadId } });
    }
    for (let index = 0; index < this.#plan!.totalChunks; index += 1) this.#stored.add(index);
    return upload;
  }

  async #assemble(uploadId: string): Promise<Upload> {
    this.#setPhase("assembling");
    const watching = new AbortController();
    void this.#watch(uploadId, watching.signal);
    try {
      return await this.#assembled(uploadId);
    } finally {
      watching.abort();
      this.#verifiedBytes = null;
    }
  }

  async #assembled(uploadId: string): Promise<Upload> {
    for (let failures = 0; ; ) {
      let askedMs: number | null = null;
      try {
        const answer = await this.#patiently(() =>
          this.#http.dataOrWait<Upload>("assemble-upload", { path: { upload_id: uploadId }, signal: this.#ended.signal, patient: true }),
        );
        if ("data" in answer) return answer.data;
        failures = 0;
        askedMs = answer.waitMs;
      } catch (error) {
        failures += 1;
        if (!(error instanceof TrainshedError && error.retryable) || failures >= ROUNDS) throw error;
      }
      await pause(askedMs ?? waitMs(failures), this.#ended.signal);
    }
  }

  /** Tell how far the assembly is, until the signal. */
  async #watch(uploadId: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await pause(WATCH_EVERY_MS, signal);
        const { verifiedBytes } = await this.#http.call<UploadProgress>("get-upload", { path: { upload_id: uploadId }, signal });
        if (signal.aborted || verifiedBytes === this.#verifiedBytes) continue;
        this.#verifiedBytes = verifiedBytes;
        this.#tellProgress();
      } catch {
        // Only a look on: the call that assembles says what became of it.
      }
    }
  }

  #look(id: string): Promise<UploadProgress> {
    return this.#call<UploadProgress>("get-upload", { path: { upload_id: id } }).then((upload) => {
      if (upload.table && !this.#table) {
        this.#table = upload.table;
        this.#tell("table", upload.table);
      }
      return upload;
    });
  }

  #call<Data>(...[name, request]: Parameters<Http["call"]>): Promise<Data> {
    return this.#patiently(() =>
      this.#http.call<Data>(name, { ...request, signal: this.#ended.signal, patient: true }),
    );
  }

  /** Call the service; wait for the network, and for whoever has to sign in, instead of giving up. */
  async #patiently<Result>(call: () => Promise<Result>): Promise<Result> {
    const begun = Date.now();
    for (let failures = 1; ; failures += 1) {
      await this.#unpaused();
      const resumes = this.#resumes;
      try {
        // Whoever renews the token may wait for a person, and this task may end before.
        const result = await this.#orEnded(call());
        this.#takeOffline(false);
        return result;
      } catch (error) {
        if (!(error instanceof TrainshedError)) throw error;
        if (error.status === 401 && this.#listeners.unauthenticated.size > 0) {
          // One of several calls says so, and none that was under way while somebody signed in.
          if (!this.#isPaused && resumes === this.#resumes) {
            this.pause();
            this.#tell("unauthenticated", error);
          }
          continue;
        }
        if (error.code !== "unreachable" || !error.retryable) throw error;
        if (!isOffline() && Date.now() - begun > UNREACHABLE_MS) throw error;
        this.#takeOffline(true);
        await online(this.#ended.signal);
        await pause(waitMs(failures), this.#ended.signal);
      }
    }
  }

  #unpaused(): Promise<void> {
    if (this.#ended.signal.aborted) return Promise.reject(this.#error ?? cancelledError());
    if (!this.#isPaused) return Promise.resolve();
    return this.#orEnded(new Promise((resolve) => this.#resumed.push(resolve)));
  }

  /** Wait for something, but not beyond the end of the task. */
  #orEnded<Result>(promise: Promise<Result>): Promise<Result> {
    const { signal } = this.#ended;
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(this.#error ?? cancelledError());
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop, { once: true });
      promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    });
  }

  #hash(kind: HashKind, from = 0, to = this.file.size): Promise<string> {
    return hasher.hash(kind, { file: this.file, from, to }, this.#ended.signal);
  }

  #hashChunk(index: number): Promise<string> {
    const from = this.#plan!.offset(index);
    return this.#hash("crc32c", from, from + this.#plan!.bytes(index));
  }

  #crc32c(index: number): Promise<string> {
    let known = this.#local.get(index);
    if (!known) {
      known = this.#hashChunk(index);
      this.#local.set(index, known);
    }
    return known;
  }

  #takeStored(index: number): void {
    this.#sent.delete(index);
    if (this.#stored.has(index)) return;
    this.#stored.add(index);
    this.#storedBytes += this.#plan!.bytes(index);
    this.#noteRate();
    this.#tellProgress();
    // The first chunk says what the columns are; nobody has to wait for the rest. A failure is no matter: the last look asks again.
    if (index === 0 && !this.#table && this.#upload) this.#look(this.#upload.uploadId).catch(() => undefined);
  }

  /** A chunk that the bucket held is gone. */
  #forget(index: number): void {
    if (this.#stored.delete(index)) this.#storedBytes -= this.#plan!.bytes(index);
  }

  #takeSent(index: number, bytes: number): void {
    if (bytes > 0 && !this.#stored.has(index)) this.#sent.set(index, bytes);
    else this.#sent.delete(index);
    this.#noteRate();
    this.#tellProgress();
  }

  #noteRate(): void {
    let underWay = 0;
    for (const bytes of this.#sent.values()) underWay += bytes;
    this.#rate.note(this.#storedBytes + underWay, Date.now());
  }

  #takeOffline(is: boolean): void {
    if (is === this.#isOffline) return;
    this.#isOffline = is;
    this.#rate.restart();
    this.#tellState();
  }

  #setUpload(upload: Upload): void {
    this.#upload = upload;
    this.#tell("upload", upload);
  }

  #setPhase(phase: Phase): void {
    if (this.#hasEnded) return;
    // What a phase came to is known before the next one begins, however quick it was.
    if (this.#progressTimer !== undefined) this.#tellProgressNow();
    this.#phase = phase;
    this.#tellState();
  }

  #tellState(): void {
    const { state } = this;
    if (state === this.#toldState) return;
    this.#toldState = state;
    this.#tell("state", state);
  }

  #end(state: "failed" | "aborted", error: TrainshedError): void {
    if (this.#hasEnded) return;
    this.#error = error;
    this.#setPhase(state);
    this.#sender?.stop(error);
    this.#ended.abort(error);
  }

  #tellProgress(): void {
    if (Date.now() - this.#toldAt >= PROGRESS_EVERY_MS) this.#tellProgressNow();
    else this.#progressTimer ??= setTimeout(() => this.#tellProgressNow(), PROGRESS_EVERY_MS);
  }

  #tellProgressNow(): void {
    clearTimeout(this.#progressTimer);
    this.#progressTimer = undefined;
    this.#toldAt = Date.now();
    this.#tell("progress", this.progress);
  }

  #tell<Name extends keyof TaskEvents>(name: Name, value: TaskEvents[Name]): void {
    for (const listener of this.#listeners[name]) listener(value);
  }
}

/** What the bucket holds of an upload that was opened just now, without asking it. */
function nothingSent(created: NewUpload): UploadProgress {
  const missing = Array.from({ length: created.totalChunks }, (_, index) => index);
  return { ...created, received: [], receivedBytes: 0, missing, table: null };
}
