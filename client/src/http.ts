import { functionsFault } from "./cors.js";
import { TrainshedError, cancelledError } from "./errors.js";
import { ROUTES, type FunctionName } from "./routes.js";
import { isOffline, online, pause, retryAfterMs, waitMs } from "./waiting.js";

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
  /** Wait for the network however long it takes. */
  patient?: boolean;
}

const MOST_TRIES = 5;
// A load balancer's own answers, which are no problem documents.
const PASSING_STATUSES = new Set([408, 429, 502, 503, 504]);

/** Sends requests to the functions: finds their address, adds the token, repeats what is passing. */
export class Http {
  readonly fetch: Fetch;
  /** What the application has given in place of the global one. */
  readonly givenFetch: Fetch | undefined;
  readonly #address: (name: FunctionName) => string;
  readonly #getToken: GetToken;

  constructor(address: (name: FunctionName) => string, getToken: GetToken, given: Fetch | undefined) {
    this.#address = address;
    this.#getToken = getToken;
    this.givenFetch = given;
    // The global one is looked up late, so that whoever instruments it sees our calls.
    this.fetch = given ?? ((input, init) => fetch(input, init));
  }

  /** Return the `data` of a function's answer. */
  async call<Data>(name: FunctionName, request: Request = {}): Promise<Data> {
    return dataOf<Data>(await this.answer(name, request));
  }

  /**
   * Return a function's answer, which is a success.
   *
   * @throws TrainshedError - the service refuses, or does not answer after several tries
   */
  async answer(name: FunctionName, request: Request = {}): Promise<Response> {
    const { signal } = request;
    let token = await this.#getToken();
    let wasRefused = false;
    for (let failures = 0; ; ) {
      if (signal?.aborted) throw cancelledError(signal);
      const outcome = await this.#attempt(name, request, token);
      if (outcome instanceof Response) return outcome;
      if (outcome.error.status === 401 && !wasRefused) {
        wasRefused = true;
        const other = await this.#getToken(token ?? undefined);
        if (other) {
          token = other;
          continue;
        }
      }
      if (isOffline() && request.patient) {
        await online(signal);
        continue;
      }
      failures += 1;
      if (!outcome.error.retryable || failures >= MOST_TRIES) throw outcome.error;
      await pause(waitMs(failures, outcome.askedMs), signal);
    }
  }

  async #attempt(
    name: FunctionName,
    request: Request,
    token: string | null | undefined,
  ): Promise<Response | { error: TrainshedError; askedMs: number | null }> {
    const url = this.url(name, request);
    const headers: Record<string, string> = {};
    if (token) headers["Authorization"] = `Bearer ${token}`;
    if (request.body !== undefined) headers["Content-Type"] = "application/json";
    const { method } = ROUTES[name];
    const init: RequestInit = { method, headers, credentials: "omit" };
    if (request.body !== undefined) init.body = JSON.stringify(request.body);
    if (request.signal) init.signal = request.signal;
    let answer: Response;
    try {
      answer = await this.fetch(url, init);
    } catch (cause) {
      if (request.signal?.aborted) throw cancelledError(request.signal);
      const fault = isOffline() ? null : await functionsFault(this.fetch, url);
      const error = fault
        ? new TrainshedError("cors", fault, { cause })
        : new TrainshedError("unreachable", `${new URL(url, here()).origin} does not answer.`, { retryable: true, cause });
      return { error, askedMs: null };
    }
    if (answer.ok) return answer;
    return { error: await errorOf(answer), askedMs: retryAfterMs(answer.headers.get("Retry-After")) };
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
  try {
    const document: unknown = await answer.json();
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
