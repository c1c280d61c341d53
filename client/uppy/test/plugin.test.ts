import { TrainshedError, type Client, type TaskEvents, type Upload, type UploadOptions, type UploadTask } from "@trainshed/client";
import Uppy, { type Body, type Meta } from "@uppy/core";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { Trainshed } from "../src/index.js";

/** A task that does what it is told, in place of the engine. */
class ScriptedTask {
  readonly done: Promise<Upload>;
  resolve!: (upload: Upload) => void;
  reject!: (error: unknown) => void;
  readonly calls: string[] = [];
  readonly #listeners: [string, (value: never) => void][] = [];

  constructor(
    readonly file: Blob,
    readonly options: UploadOptions,
  ) {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  on<Name extends keyof TaskEvents>(name: Name, listener: (value: TaskEvents[Name]) => void): () => void {
    this.#listeners.push([name, listener as (value: never) => void]);
    return () => undefined;
  }

  tell<Name extends keyof TaskEvents>(name: Name, value: Partial<TaskEvents[Name]> | string): void {
    for (const [known, listener] of this.#listeners) if (known === name) listener(value as never);
  }

  pause(): void {
    this.calls.push("pause");
  }

  resume(): void {
    this.calls.push("resume");
  }

  async cancel(): Promise<void> {
    this.calls.push("cancel");
    this.reject(new TrainshedError("cancelled", "Cancelled."));
  }
}

let tasks: ScriptedTask[];
let uppy: Uppy<Meta, Body>;

function use(options: object = {}): void {
  const start = (file: Blob, wish: UploadOptions): UploadTask => {
    tasks.push(new ScriptedTask(file, wish));
    return tasks.at(-1) as unknown as UploadTask;
  };
  uppy.use(Trainshed, { client: { uploads: { start } } as unknown as Client, sessionId: "s", ...options });
}

function add(name: string): string {
  return uppy.addFile({ name, type: "text/csv", data: new File(["x,y\n"], name) });
}

const begun = (count: number): Promise<void> => vi.waitFor(() => expect(tasks).toHaveLength(count), 20_000);

beforeEach(() => {
  tasks = [];
  uppy = new Uppy({ debug: false });
});

test("a file goes into the session, and its record is the answer", async () => {
  use({ sessionId: (file: { name: string }) => `of ${file.name}` });
  add("a.csv");
  const result = uppy.upload();
  await begun(1);
  expect(tasks[0]!.options).toMatchObject({ sessionId: "of a.csv", fileName: "a.csv", contentType: "text/csv" });
  tasks[0]!.tell("progress", { storedBytes: 2, totalBytes: 4 });
  expect(uppy.getFiles()[0]!.progress).toMatchObject({ bytesUploaded: 2, bytesTotal: 4 });
  const shown = (): object | undefined => uppy.getFiles()[0]!.progress.postprocess;
  tasks[0]!.tell("state", "assembling");
  expect(shown()).toMatchObject({ mode: "indeterminate" });
  tasks[0]!.tell("progress", { storedBytes: 4, totalBytes: 4, verifiedBytes: 1 });
  expect(shown()).toMatchObject({ mode: "determinate", value: 0.25 });
  tasks[0]!.tell("state", "assembled");
  expect(shown()).toBe(undefined);
  tasks[0]!.resolve({ uploadId: "u", state: "assembled" } as Upload);
  const { successful } = (await result)!;
  expect(successful![0]!.response).toMatchObject({ status: 200, body: { uploadId: "u" } });
});

test("the Dashboard's buttons reach the task: pause, resume, cancel", async () => {
  use();
  const id = add("a.csv");
  expect(uppy.getState().capabilities.resumableUploads).toBe(true);
  const result = uppy.upload();
  await begun(1);
  uppy.pauseResume(id);
  uppy.pauseResume(id);
  uppy.pauseAll();
  uppy.resumeAll();
  expect(tasks[0]!.calls).toEqual(["pause", "resume", "pause", "resume"]);
  uppy.cancelAll();
  await result;
  expect(tasks[0]!.calls.at(-1)).toBe("cancel");
});

test("a removed file is given up, the others go on", async () => {
  use();
  const id = add("a.csv");
  add("b.csv");
  const result = uppy.upload();
  await begun(2);
  uppy.removeFile(id);
  expect(tasks.map(({ calls }) => calls)).toEqual([["cancel"], []]);
  tasks[1]!.resolve({ uploadId: "u" } as Upload);
  expect((await result)!.successful).toHaveLength(1);
});

test("a retry goes on with the same upload; one that has ended begins anew", async () => {
  use();
  const id = add("a.csv");
  const first = uppy.upload();
  await begun(1);
  tasks[0]!.tell("upload", { uploadId: "u-1" });
  const refusal = new TrainshedError("unreachable", "The bucket does not answer.", { details: { index: 3 } });
  const told = vi.fn();
  uppy.on("upload-error", (_, error) => told(error));
  tasks[0]!.reject(refusal);
  await first;
  expect(uppy.getFile(id).error).toBe("The bucket does not answer.");
  expect(told).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ message: "The bucket does not answer.", cause: refusal }));
  const second = uppy.retryUpload(id);
  await begun(2);
  expect(tasks[1]!.options).toMatchObject({ sessionId: "s", uploadId: "u-1" });
  tasks[1]!.reject(new TrainshedError("upload_ended", "The upload is expired."));
  await second;
  void uppy.retryUpload(id);
  await begun(3);
  expect(tasks[2]!.options.uploadId).toBeUndefined();
});

test("no more files at once than allowed", async () => {
  use({ limit: 2 });
  for (const name of ["a", "b", "c"]) add(name);
  void uppy.upload();
  await begun(2);
  tasks[0]!.resolve({} as Upload);
  await begun(3);
});

test("who has to sign in again is asked, and the upload goes on", async () => {
  const signIn = vi.fn(async () => undefined);
  use({ signIn });
  add("a.csv");
  void uppy.upload();
  await begun(1);
  tasks[0]!.tell("unauthenticated", new TrainshedError("unauthenticated", "Sign in."));
  await vi.waitFor(() => expect(tasks[0]!.calls).toEqual(["resume"]));
  expect(signIn).toHaveBeenCalledOnce();
});

test("who does not sign in again finds the file failed, what is stored kept, and can retry", async () => {
  const error = new TrainshedError("unauthenticated", "Sign in.", { status: 401 });
  use({ signIn: () => Promise.reject(new Error("The dialog was closed.")) });
  const id = add("a.csv");
  const result = uppy.upload();
  await begun(1);
  tasks[0]!.tell("upload", { uploadId: "u-1" });
  tasks[0]!.options.signal!.addEventListener("abort", () => tasks[0]!.reject(new TrainshedError("cancelled", "Cancelled.", { cause: tasks[0]!.options.signal!.reason })));
  tasks[0]!.tell("unauthenticated", error);
  expect((await result)!.failed).toHaveLength(1);
  expect(uppy.getFile(id).error).toBe("Sign in.");
  expect(tasks[0]!.calls).toEqual([]);
  void uppy.retryUpload(id);
  await begun(2);
  expect(tasks[1]!.options.uploadId).toBe("u-1");
});

test("a file that is removed or paused while its session is looked for is not sent", async () => {
  const found: ((id: string) => void)[] = [];
  use({ sessionId: () => new Promise<string>((resolve) => found.push(resolve)) });
  const [removed, paused] = [add("a.csv"), add("b.csv")];
  void uppy.upload();
  await vi.waitFor(() => expect(found).toHaveLength(2), 20_000);
  uppy.removeFile(removed);
  uppy.pauseResume(paused);
  for (const resolve of found) resolve("s");
  await begun(1);
  expect(tasks[0]!.options.fileName).toBe("b.csv");
  expect(tasks[0]!.calls).toEqual(["pause"]);
});

test("each file is in the session that it was begun in, under the name that the user gave it", async () => {
  const sessionId = vi.fn(async () => `s-${sessionId.mock.calls.length}`);
  use({ sessionId });
  const id = add("a.csv");
  uppy.setFileMeta(id, { name: "renamed.csv" });
  const first = uppy.upload();
  await begun(1);
  tasks[0]!.tell("upload", { uploadId: "u-1" });
  tasks[0]!.reject(new TrainshedError("upload_not_found", "It is gone.", { status: 404 }));
  await first;
  // Without its upload it may be another session.
  const second = uppy.retryUpload(id);
  await begun(2);
  tasks[1]!.tell("upload", { uploadId: "u-2" });
  tasks[1]!.reject(new TrainshedError("unreachable", "No answer."));
  await second;
  void uppy.retryUpload(id);
  await begun(3);
  expect(tasks.map(({ options }) => [options.sessionId, options.uploadId, options.fileName])).toEqual([
    ["s-1", undefined, "renamed.csv"],
    ["s-2", undefined, "renamed.csv"],
    ["s-2", "u-2", "renamed.csv"],
  ]);
});

test("a sha256 is computed for a new upload and not for one that goes on", async () => {
  use({ sha256: true });
  const id = add("a.csv");
  const first = uppy.upload();
  await begun(1);
  tasks[0]!.tell("upload", { uploadId: "u-1" });
  tasks[0]!.reject(new TrainshedError("unreachable", "No answer."));
  await first;
  void uppy.retryUpload(id);
  await begun(2);
  expect(tasks.map(({ options }) => options.sha256)).toEqual([true, undefined]);
});

test("three files are sent at once where nothing else is said; one that is removed before its turn is not sent", async () => {
  use();
  const ids = ["a", "b", "c", "d", "e"].map(add);
  void uppy.upload();
  await begun(3);
  uppy.removeFile(ids[3]!);
  tasks[0]!.resolve({} as Upload);
  await begun(4);
  expect(tasks.map(({ options }) => options.fileName)).toEqual(["a", "b", "c", "e"]);
});

test("a file of another place fails with a sentence, and the others go on", async () => {
  use();
  const id = uppy.addFile({ name: "far.csv", data: { size: 3 } as Blob, isRemote: true });
  add("b.csv");
  const result = uppy.upload();
  await begun(1);
  tasks[0]!.resolve({} as Upload);
  expect(await result).toMatchObject({ successful: [{ name: "b.csv" }], failed: [{ id, error: "Only files of this device can be uploaded." }] });
});

test("what is done is done: it is neither sent again, nor given up when it is taken from the list", async () => {
  use();
  const id = add("a.csv");
  const result = uppy.upload();
  await begun(1);
  tasks[0]!.resolve({ uploadId: "u" } as Upload);
  await result;
  await uppy.retryUpload(id);
  uppy.removeFile(id);
  expect(tasks.map(({ calls }) => calls)).toEqual([[]]);
});

test("whoever follows the progress is told when the file was begun", async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: 1_000_000 });
  onTestFinished(() => void vi.useRealTimers());
  use();
  add("a.csv");
  const told = vi.fn();
  uppy.on("upload-progress", (_, { uploadStarted }) => told(uploadStarted));
  void uppy.upload();
  await begun(1);
  vi.setSystemTime(2_000_000);
  tasks[0]!.tell("progress", { storedBytes: 1, totalBytes: 4, verifiedBytes: null });
  expect(told).toHaveBeenCalledExactlyOnceWith(1_000_000);
});

test("without the plugin nothing is left of it: what it sends and what waits is given up", async () => {
  use({ limit: 1 });
  const failed = vi.fn();
  uppy.on("upload-error", failed);
  const id = add("a.csv");
  add("b.csv");
  const result = uppy.upload();
  await begun(1);
  uppy.removePlugin(uppy.getPlugin("Trainshed")!);
  // Its task has not ended yet; none of these may reach it.
  uppy.pauseAll();
  uppy.resumeAll();
  uppy.emit("upload-pause", uppy.getFile(id), true);
  uppy.removeFile(id);
  await result;
  expect(tasks.map(({ calls }) => calls)).toEqual([["cancel"]]);
  expect(failed).not.toHaveBeenCalled();
  expect(uppy.getState().capabilities.resumableUploads).toBe(false);
  add("c.csv");
  await uppy.upload();
  expect(tasks.map(({ calls }) => calls)).toEqual([["cancel"]]);
});
