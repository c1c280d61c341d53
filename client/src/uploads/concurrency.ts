/** Requests at once, at most; browsers and servers gain nothing beyond. */
const MOST = 16;
/** A window says something once it is this long [ms] and each request slot was used about once. */
const LEAST_WINDOW_MS = 1000;
/** Growth of the throughput that pays for one more request. */
const WORTHWHILE = 1.05;
/** Windows to wait after a raise that did not pay. */
const PATIENCE = 8;
/** Further complaints this soon are about the same moment [ms]. */
const SAME_MOMENT_MS = 2000;

/**
 * How many chunks are sent at once: begins with what the server asks for, rises while that makes the upload faster, is
 * halved when the bucket complains (429, 503).
 */
export class Concurrency {
  #limit: number;
  readonly #most: number;
  #windowBegun: number;
  #windowBytes = 0;
  #windowChunks = 0;
  #rateBefore = 0;
  #wasRaised = false;
  #windowsToWait = 0;
  #quietUntil = 0;

  constructor(first: number, now: number, most: number = MOST) {
    this.#most = Math.max(1, most);
    this.#limit = Math.max(1, Math.min(first, this.#most));
    this.#windowBegun = now;
  }

  get limit(): number {
    return this.#limit;
  }

  /** A chunk was stored. */
  stored(bytes: number, now: number): void {
    this.#windowBytes += bytes;
    this.#windowChunks += 1;
    const lasted = now - this.#windowBegun;
    if (lasted < LEAST_WINDOW_MS || this.#windowChunks < this.#limit) return;
    this.#judge(this.#windowBytes / lasted);
    this.restart(now);
  }

  /** The bucket asked for fewer requests. */
  busy(now: number): void {
    if (now < this.#quietUntil) return;
    this.#quietUntil = now + SAME_MOMENT_MS;
    this.#limit = Math.max(1, this.#limit >> 1);
    this.#wasRaised = false;
    this.#windowsToWait = 2;
    this.restart(now);
  }

  /** Begin a new window: what was measured so far had a break in it. */
  restart(now: number): void {
    this.#windowBegun = now;
    this.#windowBytes = 0;
    this.#windowChunks = 0;
  }

  #judge(rate: number): void {
    if (this.#windowsToWait > 0) {
      this.#windowsToWait -= 1;
      this.#rateBefore = rate;
      return;
    }
    if (this.#wasRaised && rate < this.#rateBefore * WORTHWHILE) {
      this.#limit -= 1;
      this.#wasRaised = false;
      this.#windowsToWait = PATIENCE;
      return;
    }
    this.#rateBefore = rate;
    this.#wasRaised = this.#limit < this.#most;
    if (this.#wasRaised) this.#limit += 1;
  }
}
