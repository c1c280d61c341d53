/** What a request or an upload failed with, as the service says it or as this client found it. */
export class TrainshedError extends Error {
  override readonly name = "TrainshedError";
  /** Stable name of the failure: of docs/api.md, or one of {@link ClientErrorCode}. */
  readonly code: string;
  /** HTTP status of the answer; 0 where there was none. */
  readonly status: number;
  /** Whether the same call can succeed later as it is. */
  readonly retryable: boolean;
  /** A sentence for people. */
  readonly detail: string;
  /** Finds the service's log line. */
  readonly requestId: string | null;
  /** Facts for programs, by code. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    detail: string,
    facts: {
      status?: number;
      retryable?: boolean;
      requestId?: string | null;
      details?: Record<string, unknown>;
      cause?: unknown;
    } = {},
  ) {
    super(detail, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.detail = detail;
    this.status = facts.status ?? 0;
    this.retryable = facts.retryable ?? false;
    this.requestId = facts.requestId ?? null;
    this.details = facts.details ?? {};
  }
}

/**
 * Codes that this client adds to those of the service.
 *
 * - `unreachable`: no answer, and not for want of CORS
 * - `cors`: the browser withheld the answer; `detail` names what is missing
 * - `unexpected_answer`: something that is not the service answered
 * - `file_changed`: the file is not the one the upload was started with; `details.index` is the first chunk that differs
 * - `file_unreadable`: the file is gone, or the browser may not read it any more
 * - `chunk_refused`: the bucket refuses a chunk for good
 * - `upload_ended`: the upload was aborted, expired or failed elsewhere
 * - `cancelled`: by `cancel()` or a signal
 */
export type ClientErrorCode =
  | "unreachable"
  | "cors"
  | "unexpected_answer"
  | "file_changed"
  | "file_unreadable"
  | "chunk_refused"
  | "upload_ended"
  | "cancelled";

/** Return the error that a call ended with because its signal was aborted. */
export function cancelledError(signal?: AbortSignal): TrainshedError {
  return new TrainshedError("cancelled", "Cancelled.", { cause: signal?.reason });
}
