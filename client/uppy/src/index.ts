import { TrainshedError, type Client, type UploadTask } from "@trainshed/client";
import { BasePlugin, type Body, type Meta, type PluginOpts, type Uppy, type UppyFile } from "@uppy/core";
import { TaskQueue, filterFilesToEmitUploadStarted, filterFilesToUpload } from "@uppy/core/utils";

export interface TrainshedOptions<M extends Meta, B extends Body> extends PluginOpts {
  client: Client;
  /** The session that files go to, which must exist: its name, or what finds or makes it. */
  sessionId: string | ((file: UppyFile<M, B>) => string | Promise<string>);
  /** Files at once; each sends several chunks at once. */
  limit?: number;
  /** Compute each file's sha256 first, so that one that was uploaded before is not sent again. */
  sha256?: boolean;
  /** Signs the user in again; the upload goes on when it resolves. Without it, or where it rejects, the file fails and can be retried. */
  signIn?: (error: TrainshedError) => Promise<void>;
}

/** What a file's state keeps, so that a retry or a reloaded page (Golden Retriever) goes on with the same upload. */
interface Kept {
  trainshed?: { sessionId: string; uploadId: string };
}

const FILES_AT_ONCE = 3;

/**
 * An uploader for Uppy 6: pause, resume, retry and cancel of the Dashboard work, and after a reload an upload goes on where
 * it was, also with a file that had to be picked again: it is compared with what is stored before anything is sent.
 *
 * @example
 * uppy.use(Trainshed, { client, sessionId: "weather" });
 */
export class Trainshed<M extends Meta, B extends Body> extends BasePlugin<TrainshedOptions<M, B>, M, B> {
  readonly #queue: TaskQueue;
  readonly #tasks = new Map<string, UploadTask>();

  constructor(uppy: Uppy<M, B>, options: TrainshedOptions<M, B>) {
    super(uppy, options);
    this.type = "uploader";
    this.id = options.id ?? "Trainshed";
    this.#queue = new TaskQueue({ concurrency: options.limit ?? FILES_AT_ONCE });
  }

  override install(): void {
    this.#sayResumable(true);
    this.uppy.addUploader(this.#upload);
    this.uppy.on("upload-pause", this.#pauseOne);
    this.uppy.on("pause-all", this.#pauseAll);
    this.uppy.on("resume-all", this.#resumeAll);
    // What is cancelled is removed, too.
    this.uppy.on("file-removed", this.#remove);
  }

  override uninstall(): void {
    this.#sayResumable(false);
    this.uppy.removeUploader(this.#upload);
    this.uppy.off("upload-pause", this.#pauseOne);
    this.uppy.off("pause-all", this.#pauseAll);
    this.uppy.off("resume-all", this.#resumeAll);
    this.uppy.off("file-removed", this.#remove);
    this.#cancelAll();
  }

  readonly #upload = async (ids: string[]): Promise<void> => {
    const files = filterFilesToUpload(this.uppy.getFilesByIds(ids));
    this.uppy.emit("upload-start", filterFilesToEmitUploadStarted(files));
    // Each file tells its own end by an event.
    await Promise.allSettled(files.map(({ id }) => this.#queue.add(() => this.#send(id))));
  };

  async #send(id: string): Promise<void> {
    // It may have been removed while it waited for its turn.
    const file = this.uppy.getState().files[id];
    if (!file) return;
    try {
      if (file.isRemote || !(file.data instanceof Blob)) {
        throw new TrainshedError("file_unreadable", "Only files of this device can be uploaded.");
      }
      const kept = (file as UppyFile<M, B> & Kept).trainshed;
      const { sessionId: session, sha256 } = this.opts;
      const sessionId = kept?.sessionId ?? (typeof session === "string" ? session : await session(file));
      // Nor may it have been removed or paused unnoticed while its session was looked for.
      const now = this.uppy.getState().files[id];
      if (!now) return;
      const task = this.#start(file, file.data, sessionId, kept?.uploadId, sha256);
      this.#tasks.set(id, task);
      if (now.isPaused) task.pause();
      const upload = await task.done;
      this.uppy.emit("upload-success", this.uppy.getFile(id), { status: 200, body: { ...upload } as unknown as B });
    } catch (error) {
      this.#fail(id, error);
    } finally {
      this.#tasks.delete(id);
    }
  }

  #start(file: UppyFile<M, B>, data: Blob, sessionId: string, uploadId?: string, sha256?: boolean): UploadTask {
    const { id } = file;
    const given = new AbortController();
    const task = this.opts.client.uploads.start(data, {
      sessionId,
      fileName: file.meta.name || file.name || "file",
      ...(file.type && { contentType: file.type }),
      ...(uploadId && { uploadId }),
      ...(sha256 && !uploadId && { sha256: true }),
      signal: given.signal,
    });
    task.on("upload", (upload) => this.#set(id, { trainshed: { sessionId, uploadId: upload.uploadId } }));
    // The bytes that the bucket has, not those that have left: an upload that shows 100 % is there.
    task.on("progress", ({ storedBytes, totalBytes, verifiedBytes }) => {
      const now = this.uppy.getState().files[id];
      if (!now) return;
      this.uppy.emit("upload-progress", now, {
        uploadStarted: now.progress.uploadStarted ?? Date.now(),
        bytesUploaded: storedBytes,
        bytesTotal: totalBytes,
      });
      if (verifiedBytes) {
        this.uppy.emit("postprocess-progress", now, { mode: "determinate", message: "Checking the file", value: verifiedBytes / totalBytes });
      }
    });
    task.on("state", (state) => {
      const now = this.uppy.getState().files[id];
      if (!now) return;
      if (state === "assembling") {
        this.uppy.emit("postprocess-progress", now, { mode: "indeterminate", message: "Putting the file together" });
      } else if (state === "assembled" || state === "failed") {
        this.uppy.emit("postprocess-complete", now);
      }
    });
    const { signIn } = this.opts;
    if (signIn) task.on("unauthenticated", (error) => void signIn(error).then(() => task.resume(), () => given.abort(error)));
    return task;
  }

  #fail(id: string, reason: unknown): void {
    const file = this.uppy.getState().files[id];
    if (!file) return;
    if (reason instanceof TrainshedError && reason.code === "cancelled") {
      // By a button, or because nobody signed in again.
      if (!(reason.cause instanceof TrainshedError)) return;
      reason = reason.cause;
    }
    // Uppy writes `details` behind the message as if it were text: our error is the cause instead.
    const error = new Error(reason instanceof Error ? reason.message : String(reason), { cause: reason });
    // Given up or swept: a retry begins a new upload.
    if (reason instanceof TrainshedError && (reason.code === "upload_ended" || reason.code === "upload_not_found")) {
      this.#set(id, { trainshed: undefined });
    }
    this.uppy.emit("upload-error", file, error);
  }

  readonly #pauseOne = (file: UppyFile<M, B> | undefined, isPaused: boolean): void => {
    const task = file && this.#tasks.get(file.id);
    if (isPaused) task?.pause();
    else task?.resume();
  };

  readonly #pauseAll = (): void => this.#tasks.forEach((task) => task.pause());

  readonly #resumeAll = (): void => this.#tasks.forEach((task) => task.resume());

  readonly #remove = (file: UppyFile<M, B>): void => void this.#tasks.get(file.id)?.cancel();

  readonly #cancelAll = (): void => {
    this.#queue.clear();
    this.#tasks.forEach((task) => void task.cancel());
  };

  #set(id: string, kept: { [Name in keyof Kept]: Kept[Name] | undefined }): void {
    if (this.uppy.getState().files[id]) this.uppy.setFileState(id, kept as Partial<UppyFile<M, B>>);
  }

  #sayResumable(is: boolean): void {
    const { capabilities } = this.uppy.getState();
    this.uppy.setState({ capabilities: { ...capabilities, resumableUploads: is } });
  }
}

export default Trainshed;
