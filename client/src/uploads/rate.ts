/** What the rate is taken over: short enough to follow a change, long enough not to flicker [ms]. */
const SPAN_MS = 8000;
const LEAST_SPAN_MS = 500;

/** The pace of an upload, from what left this machine in the last seconds. */
export class Rate {
  #points: { at: number; bytes: number }[] = [];

  /** Note how many bytes have left in all. A smaller number than before (a chunk is sent again) begins anew. */
  note(bytes: number, at: number): void {
    const last = this.#points.at(-1);
    if (last && bytes < last.bytes) this.#points = [];
    this.#points.push({ at, bytes });
    while (this.#points.length > 2 && at - this.#points[1]!.at > SPAN_MS) this.#points.shift();
  }

  /** Forget everything: there was a break. */
  restart(): void {
    this.#points = [];
  }

  /** Bytes per second; null where too little is known. */
  get bytesPerSecond(): number | null {
    const first = this.#points[0];
    const last = this.#points.at(-1);
    if (!first || !last || last.at - first.at < LEAST_SPAN_MS) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
  }
}
