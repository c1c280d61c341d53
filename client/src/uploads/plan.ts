import { TrainshedError } from "../errors.js";
import type { Upload } from "../types.js";

/** How a file is cut: every chunk has `chunkSize` bytes but the last one, which takes the rest. */
export class ChunkPlan {
  readonly size: number;
  readonly chunkSize: number;
  readonly totalChunks: number;

  /**
   * Take over the server's plan.
   *
   * @throws TrainshedError - `unexpected_answer` if it does not cover the file exactly
   */
  constructor({ size, chunkSize, totalChunks }: Pick<Upload, "size" | "chunkSize" | "totalChunks">) {
    if (size === null) throw new TrainshedError("upload_ended", "This upload is an old client's, which sends its chunks itself.");
    if (totalChunks !== Math.ceil(size / chunkSize)) {
      throw new TrainshedError("unexpected_answer", `The server plans ${totalChunks} chunks for ${size} bytes.`);
    }
    this.size = size;
    this.chunkSize = chunkSize;
    this.totalChunks = totalChunks;
  }

  /** Where a chunk begins [bytes]. */
  offset(index: number): number {
    return index * this.chunkSize;
  }

  bytes(index: number): number {
    return Math.min(this.chunkSize, this.size - this.offset(index));
  }

  slice(file: Blob, index: number): Blob {
    return file.slice(this.offset(index), this.offset(index) + this.bytes(index));
  }
}
