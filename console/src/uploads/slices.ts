// A long task is one of more than 50 ms (https://web.dev/articles/optimize-long-tasks); drawing needs most of that.
const SLICE_MS = 8;

/** Work that is cut where it has lasted long enough, so that between two slices the page draws and listens. */
export class Slices {
  #ends = performance.now() + SLICE_MS;

  get isOver(): boolean {
    return performance.now() >= this.#ends;
  }

  /** Resolves when it is our turn again. */
  async next(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve));
    this.#ends = performance.now() + SLICE_MS;
  }
}
