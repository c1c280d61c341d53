/** A small service and bucket on one port, which answers as the real ones do and can be told to misbehave. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extend, textOf } from "../src/uploads/crc32c.js";

export const CHUNK_BYTES = 1000;

interface StoredUpload {
  uploadId: string;
  sessionId: string;
  fileName: string;
  size: number;
  sha256: string | null;
  state: string;
  crc32c: string | null;
  chunks: Map<number, { bytes: Buffer; crc32c: string }>;
}

type Fault = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export class Service {
  readonly uploads = new Map<string, StoredUpload>();
  readonly calls: string[] = [];
  readonly tokens: (string | undefined)[] = [];
  /** Asked first about each request; true: it has answered. */
  faults: Fault[] = [];
  concurrency = 3;
  /** What is told of an assembly, look by look; it ends with the last. */
  verifiedBytes: (number | null)[] = [];
  mostAtOnce = 0;
  puts = 0;
  url = "";
  #atOnce = 0;
  readonly #server = createServer((request, response) => void this.#take(request, response));

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Let the next `times` requests whose "METHOD path" matches be answered otherwise. */
  fault(match: RegExp, times: number, act: (request: IncomingMessage, response: ServerResponse) => void): void {
    let left = times;
    this.faults.push((request, response) => {
      if (left === 0 || !match.test(`${request.method} ${request.url}`)) return false;
      left -= 1;
      request.resume().on("end", () => act(request, response));
      return true;
    });
  }

  get only(): StoredUpload {
    return [...this.uploads.values()][0]!;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const line = `${request.method} ${request.url}`;
    this.calls.push(line);
    this.tokens.push(request.headers.authorization);
    if (request.method === "PUT") {
      this.#atOnce += 1;
      this.mostAtOnce = Math.max(this.mostAtOnce, this.#atOnce);
      response.on("close", () => (this.#atOnce -= 1));
    }
    for (const fault of this.faults) if (await fault(request, response)) return;
    const pieces: Buffer[] = [];
    try {
      for await (const piece of request) pieces.push(piece as Buffer);
    } catch {
      return;
    }
    const body = Buffer.concat(pieces);
    if (request.method === "PUT") await this.#put(request, body, response);
    else this.#call(line, body.length > 0 ? (JSON.parse(body.toString()) as Record<string, unknown>) : {}, response);
  }

  async #put(request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, this.url);
    const [, , id, index] = url.pathname.split("/");
    this.puts += 1;
    if (Number(url.searchParams.get("expires")) < Date.now()) return refuseXml(response, 403, "ExpiredToken");
    const { chunks } = this.uploads.get(id!)!;
    if (chunks.has(Number(index))) return refuseXml(response, 412, "PreconditionFailed");
    const crc32c = textOf(extend(0, body));
    if (request.headers["x-goog-hash"] !== `crc32c=${crc32c}`) return refuseXml(response, 400, "BadDigest");
    chunks.set(Number(index), { bytes: body, crc32c });
    response.writeHead(200).end();
  }

  #call(line: string, body: Record<string, unknown>, response: ServerResponse): void {
    const [, id, verb] = /\/uploads\/([\w-]+)(?:\/(\w+))?$/.exec(line) ?? [];
    if (line === "POST /api/training/uploads") return this.#create(body, response);
    const upload = id && this.uploads.get(id);
    if (!upload) return refuse(response, 404, "upload_not_found");
    if (verb === undefined) {
      const verifiedBytes = upload.state === "assembling" ? this.verifiedBytes.shift() : null;
      return answer(response, 200, { ...this.#progress(upload), verifiedBytes });
    }
    if (verb === "abort") {
      upload.state = "aborted";
      upload.chunks.clear();
      return answer(response, 200, { uploadId: id, state: "aborted", objectsDeleted: 0 });
    }
    if (verb === "chunks") {
      if (upload.state !== "open") return refuse(response, 409, "wrong_state", { state: upload.state });
      const wanted = body["chunks"] as { index: number; crc32c: string }[];
      return answer(response, 200, { uploadId: id, chunks: wanted.map((one) => this.sign(upload, one)) });
    }
    void this.#assemble(upload, response);
  }

  /** Sign a chunk; tests replace it to have signatures expire. */
  sign(upload: StoredUpload, { index, crc32c }: { index: number; crc32c: string }, expires = Date.now() + 60_000): object {
    return {
      index,
      size: Math.min(CHUNK_BYTES, upload.size - index * CHUNK_BYTES),
      method: "PUT",
      url: `${this.url}/bucket/${upload.uploadId}/${index}?expires=${expires}`,
      headers: { "x-goog-hash": `crc32c=${crc32c}` },
    };
  }

  #create(body: Record<string, unknown>, response: ServerResponse): void {
    const { sessionId, fileName, size, sha256 } = body as unknown as StoredUpload;
    if (size > 10 ** 9) return refuse(response, 403, "storage_limit_reached", { limit: 10 ** 9, used: 0 });
    const known = [...this.uploads.values()].find((one) => one.fileName === fileName && one.state !== "aborted");
    if (known && known.state !== "open") return refuse(response, 409, "file_exists", { uploadId: known.uploadId, state: known.state });
    const upload = known ?? {
      uploadId: `u-${this.uploads.size}`,
      sessionId,
      fileName,
      size,
      sha256: sha256 ?? null,
      state: "open",
      crc32c: null,
      chunks: new Map(),
    };
    this.uploads.set(upload.uploadId, upload);
    answer(response, 201, { ...this.#progress(upload), isNew: !known });
  }

  async #assemble(upload: StoredUpload, response: ServerResponse): Promise<void> {
    const { missing } = this.#progress(upload);
    if (missing.length > 0) return refuse(response, 409, "chunks_missing", { missing });
    upload.state = "assembling";
    while (this.verifiedBytes.length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    upload.crc32c ??= textOf(this.contentOf(upload).reduce(extend, 0));
    upload.state = "assembled";
    answer(response, 200, this.#progress(upload));
  }

  contentOf(upload: StoredUpload): Uint8Array<ArrayBuffer>[] {
    return [...upload.chunks].sort(([one], [other]) => one - other).map(([, { bytes }]) => new Uint8Array(bytes));
  }

  #progress(upload: StoredUpload) {
    const { chunks, ...facts } = upload;
    // None for an empty file, as the real one plans it.
    const totalChunks = Math.ceil(upload.size / CHUNK_BYTES);
    const received = upload.state === "open" ? [...chunks].map(([index, { bytes, crc32c }]) => ({ index, size: bytes.length, crc32c })) : [];
    return {
      ...facts,
      chunkSize: CHUNK_BYTES,
      totalChunks,
      concurrency: this.concurrency,
      failure: null,
      received,
      missing: Array.from({ length: totalChunks }, (_, index) => index).filter((index) => !chunks.has(index)),
      table: chunks.has(0) ? { columns: [{ name: "x", type: "integer" }], problem: null } : null,
    };
  }
}

export function answer(response: ServerResponse, status: number, data: object): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify({ success: true, data }));
}

export function refuse(response: ServerResponse, status: number, code: string, details: object = {}, retryable = false, headers = {}): void {
  const problem = { code, detail: `The service says ${code}.`, status, retryable, request_id: "r-1", details };
  response.writeHead(status, { "Content-Type": "application/problem+json", ...headers }).end(JSON.stringify(problem));
}

export function refuseXml(response: ServerResponse, status: number, code: string, headers = {}): void {
  response.writeHead(status, { "Content-Type": "application/xml", ...headers }).end(`<Error><Code>${code}</Code></Error>`);
}
