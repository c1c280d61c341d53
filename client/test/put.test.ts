/** How one chunk is sent: what ends a request that nobody answers. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { putFor } from "../src/uploads/put.js";

const chunk = { index: 0, size: 16_000, method: "PUT", url: "https://bucket.example/o", headers: {} } as const;
const NO_ANSWER = { status: 0, code: "", retryAfter: null };
const nothing = (): void => undefined;

test("a fetch that hangs is given up, the later the more it carries", async () => {
  const dead = new AbortController();
  const timeout = vi.spyOn(AbortSignal, "timeout").mockReturnValue(dead.signal);
  onTestFinished(() => timeout.mockRestore());
  const hanging: typeof fetch = (_, init) => new Promise((_, reject) => init!.signal!.addEventListener("abort", () => reject(init!.signal!.reason)));
  const answer = putFor(hanging)(chunk, new Blob(), new AbortController().signal, nothing);
  expect(timeout).toHaveBeenCalledExactlyOnceWith(60_000 + 1000);
  dead.abort();
  expect(await answer).toEqual(NO_ANSWER);
});

describe("a browser's request", () => {
  /** Hangs until it is aborted. */
  class HangingXhr {
    static last: HangingXhr;
    readonly upload: { onprogress?: (event: { loaded: number }) => void } = {};
    readonly status = 0;
    onloadend?: () => void;
    open = nothing;
    setRequestHeader = nothing;
    send = nothing;
    getAllResponseHeaders = (): string => "";

    constructor() {
      HangingXhr.last = this;
    }

    abort(): void {
      this.onloadend?.();
    }
  }

  beforeEach(() => void vi.stubGlobal("XMLHttpRequest", HangingXhr));
  afterEach(() => void vi.unstubAllGlobals());

  test("is given up after a minute without progress, not a minute after it began", async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const ended = vi.fn();
    void putFor(undefined)(chunk, new Blob(), new AbortController().signal, nothing).then(ended);
    await vi.advanceTimersByTimeAsync(50_000);
    HangingXhr.last.upload.onprogress!({ loaded: 1 });
    await vi.advanceTimersByTimeAsync(59_000);
    expect(ended).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1000);
    expect(ended).toHaveBeenCalledExactlyOnceWith(NO_ANSWER);
  });

  test("that is aborted rejects with the reason, and nothing of it waits any more", async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const page = new AbortController();
    const answer = putFor(undefined)(chunk, new Blob(), page.signal, nothing);
    page.abort("paused");
    await expect(answer).rejects.toBe("paused");
    expect(vi.getTimerCount()).toBe(0);
  });

  test("is not made where the application gives a fetch of its own", async () => {
    const given = vi.fn(async () => new Response("", { status: 200 }));
    expect(await putFor(given)(chunk, new Blob(), new AbortController().signal, nothing)).toMatchObject({ status: 200 });
    expect(given).toHaveBeenCalledOnce();
  });
});
