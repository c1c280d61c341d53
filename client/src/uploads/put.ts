import type { Fetch } from "../http.js";
import type { SignedChunk } from "../types.js";

/** The bucket's answer to a chunk; `status` 0 where there was none. */
export interface PutAnswer {
  status: number;
  /** The bucket's code, from its XML: `ExpiredToken`, `BadDigest`, ... */
  code: string;
  retryAfter: string | null;
}

/** Sends a chunk's bytes; tells how many have left so far. Rejects only where the signal, a fresh one, was aborted meanwhile. */
export type Put = (
  chunk: SignedChunk,
  body: Blob,
  signal: AbortSignal,
  onSent: (bytes: number) => void,
) => Promise<PutAnswer>;

const NO_ANSWER: PutAnswer = { status: 0, code: "", retryAfter: null };
// A connection that is dead without anybody having said so.
const SILENCE_MS = 60_000;
const SLOWEST_BYTES_PER_MS = 16;

/** The way that shows progress where there is one. */
export function putFor(given: Fetch | undefined): Put {
  return !given && typeof XMLHttpRequest !== "undefined" ? putByXhr : putByFetch(given ?? fetch);
}

const putByXhr: Put = (chunk, body, signal, onSent) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let silence: ReturnType<typeof setTimeout>;
    const listen = (): void => {
      clearTimeout(silence);
      silence = setTimeout(() => request.abort(), SILENCE_MS);
    };
    request.open(chunk.method, chunk.url);
    for (const [name, value] of Object.entries(chunk.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      listen();
      onSent(event.loaded);
    };
    request.onloadend = () => {
      clearTimeout(silence);
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      resolve({
        status: request.status,
        code: codeOf(request.status ? request.responseText : ""),
        // Asked for only where it may be read; browsers log an error otherwise.
        retryAfter: /^retry-after:/im.test(request.getAllResponseHeaders()) ? request.getResponseHeader("Retry-After") : null,
      });
    };
    signal.addEventListener("abort", () => request.abort());
    listen();
    request.send(body);
  });

function putByFetch(send: Fetch): Put {
  return async (chunk, body, signal) => {
    const dead = AbortSignal.timeout(Math.ceil(SILENCE_MS + chunk.size / SLOWEST_BYTES_PER_MS));
    try {
      const answer = await send(chunk.url, {
        method: chunk.method,
        headers: chunk.headers,
        body,
        credentials: "omit",
        signal: AbortSignal.any([signal, dead]),
      });
      const text = await answer.text();
      return { status: answer.status, code: codeOf(text), retryAfter: answer.headers.get("Retry-After") };
    } catch (error) {
      if (signal.aborted) throw error;
      return NO_ANSWER;
    }
  };
}

function codeOf(xml: string): string {
  return /<Code>([^<]{1,100})<\/Code>/.exec(xml)?.[1] ?? "";
}
