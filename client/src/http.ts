import { functionsFault } from "./cors.js";
import { TrainshedError, cancelledError } from "./errors.js";
import { ROUTES, type FunctionName } from "./routes.js";
import { isOffline, pause, retryAfterMs, waitMs } from "./waiting.js";

export type Fetch = typeof fetch;

/**
 * Returns the caller's access token, or null for none. It is asked before each request, so it may refresh by itself, as
 * `supabase.auth.getSession()` does.
 *
 * @param refused - the token that the service has just answered 401 to; return another one, or null
 */
export type GetToken = (refused?: string) => string | null | undefined | Promise<string | null | undefined>;

export interface CallOptions {
  /** Gives the call up. */
  signal?: AbortSignal;
}

export interface Request {
  path?: Readonly<Record<string, string>>;
  query?: Readonly<Record<string, string | number | undefined>>;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** The caller waits for the network, however long it takes: nothing is tried without one. */
  patient?: boolean;
}

const MOST_TRIES = 5;
/** For the way there and back, after the longest that a function may take [s]. */
const WAY_S = 10;
/** How long to wait before asking again what is not done yet, where the answer does not say [ms]. */
const FIRST_LOOK_MS = 1000;
// A load balancer's own answers, which are no problem documents.
const PASSING_STATUSES = new Set([408, 429, 502, 503, 504]);

/** Sends requests to the functions: finds their address, adds the token, repeats what is passing. */
export class Http {
  readonly fetch: Fetch;
  /** What the application has given in place of the global one. */
  readonly givenFetch: Fetch | undefined;
  readonly #address: (name: FunctionName) => string;
  readonly #getToken: GetToken;
  #renewal: { refused: string | undefined; token: Promise<string | null | undefined> } | null = null;

  constructor(address: (name: FunctionName) => string, getToken: GetToken, given: Fetch | undefined) {
    this.#address = address;
    this.#getToken = getToken;
    this.givenFetch = given;
    // The global one is looked up late, so that whoever instruments it sees our calls.
    this.fetch = given ?? ((input, init) => fetch(input, init));
  }

  /** Return the `data` of a function's answer. */
  async call<Data>(name: FunctionName, request: Request = {}): Promise<Data> {
    return this.#ask(name, request, dataOf<Data>);
  }

  /** Return the `data` of an answer, or how long to wait before asking again: what was asked for is not done yet (202). */
  async dataOrWait<Data>(name: FunctionName, request: Request = {}): Promise<{ data: Data } | { waitMs: number }> {
    return this.#ask(name, request, async (answer) => {
      if (answer.status !== 202) return { data: await dataOf<Data>(answer) };
      await answer.body?.cancel();
      return { waitMs: retryAfterMs(answer.headers.get("Retry-After")) ?? FIRST_LOOK_MS };
    });
  }

  /** Return the bytes of a function's answer. */
  async blob(name: FunctionName, request: Request = {}): Promise<Blob> {
    return this.#ask(name, request, (answer) => answer.blob());
  }

  /**
   * Return what `read` makes of a function's answer, which is a success. A connection that breaks while it is read is as good
   * as no answer.
   *
   * @throws TrainshedError - the service refuses, or does not answer after several tries
   */
  async #ask<Result>(name: FunctionName, request: Request, read: (answer: Response) => Promise<Result>): Promise<Result> {
    const { signal } = request;
    let token = await this.#getToken();
    let wasRefused = false;
    for (let failures = 0; ; ) {
      if (signal?.aborted) throw cancelledError(signal);
      const outcome = await this.#attempt(name, request, token, read);
      if ("result" in outcome) return outcome.result;
      if (outcome.error.status === 401 && !wasRefused) {
        wasRefused = true;
        const other = await this.#renew(token ?? undefined);
        if (other) {
          token = other;
          continue;
        }
      }
      // Who waits for the network says so, and does it themselves.
      if (isOffline() && request.patient) throw outcome.error;
      failures += 1;
      if (!outcome.error.retryable || failures >= MOST_TRIES) throw outcome.error;
      await pause(waitMs(failures, outcome.askedMs), signal);
    }
  }

  /** Ask for another token than the refused one, once for all requests that wait for it. */
  async #renew(refused: string | undefined): Promise<string | null | undefined> {
    if (this.#renewal === null || this.#renewal.refused !== refused) {
      const renew = async (): Promise<string | null | undefined> => {
        // Another request may have come first, and be done.
        const current = await this.#getToken();
        return current && current !== refused ? current : this.#getToken(refused);
      };
      const renewal = { refused, token: renew() };
      this.#renewal = renewal;
      const forget = (): void => {
        if (this.#renewal === renewal) this.#renewal = null;
      };
      renewal.token.then(forget, forget);
    }
    return this.#renewal.token;
  }

  async #attempt<Result>(
    name: FunctionName,
    request: Request,
    token: string | null | undefined,
    read: (answer: Response) => Promise<Result>,
  ): Promise<{ result: Result } | { error: TrainshedError; askedMs: number | null }> {
    const url = this.url(name, request);
    const headers: Record<string, string> = {};
    if (token) headers["Authorization"] = `Bearer ${token}`;
    if (request.body !== undefined) headers["Content-Type"] = "application/json";
    const { method, timeoutS } = ROUTES[name];
    // A connection can be dead without anybody having said so.
    const dead = AbortSignal.timeout((timeoutS + WAY_S) * 1000);
    const signal = request.signal ? AbortSignal.any([request.signal, dead]) : dead;
    const init: RequestInit = { method, headers, credentials: "omit", signal };
    if (request.body !== undefined) init.body = JSON.stringify(request.body);
    try {
      const answer = await this.fetch(url, init);
      if (answer.ok) return { result: await read(answer) };
      return { error: await errorOf(answer), askedMs: retryAfterMs(answer.headers.get("Retry-After")) };
    } catch (cause) {
      if (request.signal?.aborted) throw cancelledError(request.signal);
      if (cause instanceof TrainshedError) return { error: cause, askedMs: null };
      const fault = isOffline() || dead.aborted ? null : await functionsFault(this.fetch, url, Object.keys(headers));
      const error = fault
        ? new TrainshedError("cors", fault, { cause })
        : new TrainshedError("unreachable", `${new URL(url, here()).origin} does not answer.`, { retryable: true, cause });
      return { error, askedMs: null };
    }
  }

  /** Return the address that a request goes to. */
  url(name: FunctionName, request: Request = {}): string {
    const path = ROUTES[name].path.replace(/\{(\w+)\}/g, (_, key: string) => encodeURIComponent(request.path?.[key] ?? ""));
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) query.set(key, String(value));
    }
    const text = query.toString();
    return this.#address(name) + path + (text && `?${text}`);
  }
}

/** Return the function that finds a function's address. */
export function addresses(
  place: { baseUrl: string } | { urls: Readonly<Partial<Record<string, string>>> },
): (name: FunctionName) => string {
  if ("baseUrl" in place) {
    const base = place.baseUrl.replace(/\/+$/, "");
    // The front door has everything below one path; an address that has a path already says its own.
    const hasPath = /^([a-z]+:)?\/\/[^/]+\/.+/i.test(base) || /^\/./.test(base);
    const full = hasPath ? base : `${base}/api/training`;
    return () => full;
  }
  const { urls } = place;
  return (name) => {
    const url = urls[name];
    if (!url) throw new TrainshedError("unreachable", `No address is known of the function ${name}.`);
    return url.replace(/\/+$/, "");
  };
}

async function dataOf<Data>(answer: Response): Promise<Data> {
  const document = await json(answer);
  if (document === null || !("data" in document)) throw unexpected(answer);
  return document["data"] as Data;
}

async function errorOf(answer: Response): Promise<TrainshedError> {
  const problem = await json(answer);
  if (problem === null || typeof problem["code"] !== "string") return unexpected(answer);
  const { code, detail, title, retryable, request_id: requestId, details } = problem;
  return new TrainshedError(code, String(detail ?? title ?? code), {
    status: answer.status,
    retryable: retryable === true,
    requestId: typeof requestId === "string" ? requestId : null,
    details: isObject(details) ? details : {},
  });
}

function unexpected(answer: Response): TrainshedError {
  const where = answer.url ? new URL(answer.url, here()).origin : "The service";
  return new TrainshedError("unexpected_answer", `${where} answered ${answer.status} with something that is not Trainshed's.`, {
    status: answer.status,
    retryable: PASSING_STATUSES.has(answer.status),
    requestId: answer.headers.get("X-Request-Id"),
  });
}

async function json(answer: Response): Promise<Record<string, unknown> | null> {
  const text = await answer.text();
  try {
    const document: unknown = JSON.parse(text);
    return isObject(document) ? document : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function here(): string {
  return typeof location === "undefined" ? "http://localhost" : location.href;
}
