import { TrainshedError } from "./errors.js";
import { Http, addresses, type CallOptions, type Fetch, type GetToken, type Request } from "./http.js";
import type { FunctionName } from "./routes.js";
import type * as api from "./types.js";
import { UploadTask, type UploadOptions } from "./uploads/task.js";
import { pause } from "./waiting.js";

export type { CallOptions, GetToken } from "./http.js";

/** Where the functions are: below one address, or each at its own, by the names of functions/manifest.yaml. */
export type Place = { baseUrl: string } | { urls: Readonly<Record<string, string>> };

export interface ClientOptions {
  /** Returns the access token; without it none is sent. */
  getToken?: GetToken;
  /** Sends requests in place of the global `fetch`, chunks included. */
  fetch?: Fetch;
}

export type Client = ReturnType<typeof createClient>;

/**
 * Return a client of one deployment.
 *
 * Every call repeats by itself what is passing (429, 503, a broken connection), which all routes allow, and rejects with a
 * {@link TrainshedError} otherwise.
 *
 * @example
 * const client = createClient(
 *   { baseUrl: "https://train.example.com" },
 *   { getToken: async () => (await supabase.auth.getSession()).data.session?.access_token },
 * );
 */
export function createClient(place: Place, options: ClientOptions = {}) {
  const http = new Http(addresses(place), options.getToken ?? (() => null), options.fetch);

  /** Ask again, as late as told to, until it is done. */
  async function finished<Data>(name: FunctionName, request: Request): Promise<Data> {
    for (;;) {
      const answer = await http.dataOrWait<Data>(name, request);
      if ("data" in answer) return answer.data;
      await pause(answer.waitMs, request.signal);
    }
  }

  const uploads = {
    /** Open an upload, or find the open one of the same name, size and sha256. */
    create(
      wish: api.CreateUpload,
      { signal }: CallOptions = {},
    ): Promise<api.NewUpload> {
      return http.call("create-upload", { body: wish, signal });
    },
    /** What the bucket holds of an upload. */
    get(uploadId: string, { signal }: CallOptions = {}): Promise<api.UploadProgress> {
      return http.call("get-upload", { path: { upload_id: uploadId }, signal });
    },
    /** Sign 1 to 128 chunks. */
    sign(
      uploadId: string,
      chunks: readonly api.WantedChunk[],
      { signal }: CallOptions = {},
    ): Promise<api.SignedChunks> {
      return http.call("sign-chunks", { path: { upload_id: uploadId }, body: { chunks }, signal });
    },
    /** Make one object of the chunks; waits while another call is at it. */
    assemble(uploadId: string, { signal }: CallOptions = {}): Promise<api.Upload> {
      return finished("assemble-upload", { path: { upload_id: uploadId }, signal });
    },
    /** Give an upload up and delete its chunks. */
    abort(uploadId: string, { signal }: CallOptions = {}): Promise<api.AbortedUpload> {
      return http.call("abort-upload", { path: { upload_id: uploadId }, signal });
    },
    /** Send a file: returns at once; the task says how far it is. */
    start(file: Blob, wish: UploadOptions): UploadTask {
      return new UploadTask(http, file, wish);
    },
  };

  return {
    sessions: {
      init(sessionId: string, metadata?: api.Metadata, { signal }: CallOptions = {}): Promise<api.NewSession> {
        return http.call("init-session", { body: { sessionId, ...(metadata && { metadata }) }, signal });
      },
      /** One page, newest first; with `search`, of those whose id or title has it in it. */
      list(
        { limit, pageToken, search }: { limit?: number; pageToken?: string; search?: string } = {},
        { signal }: CallOptions = {},
      ): Promise<api.SessionPage> {
        return http.call("list-sessions", { query: { limit, page_token: pageToken || undefined, search: search || undefined }, signal });
      },
      get(sessionId: string, { signal }: CallOptions = {}): Promise<api.SessionDetails> {
        return http.call("get-session", { path: { session_id: sessionId }, signal });
      },
      /** Delete the session with every row and object of it. */
      remove(sessionId: string, { signal }: CallOptions = {}): Promise<api.DeletedSession> {
        return http.call("delete-session", { path: { session_id: sessionId }, signal });
      },
      /** Close the session to uploads; rejects with `uploads_unfinished` while some are open. */
      finalize(sessionId: string, { signal }: CallOptions = {}): Promise<api.FinalizedSession> {
        return http.call("finalize-session", { body: { sessionId }, signal });
      },
    },
    uploads,
    training: {
      /** Queue a training; the same request again answers the same run. */
      start(sessionId: string, request: api.TrainingRequest, { signal }: CallOptions = {}): Promise<api.Run> {
        return http.call("train", { path: { session_id: sessionId }, body: request, signal });
      },
      /** The newest run. */
      get(sessionId: string, { signal }: CallOptions = {}): Promise<api.Run> {
        return http.call("get-training", { path: { session_id: sessionId }, signal });
      },
      cancel(sessionId: string, { signal }: CallOptions = {}): Promise<api.Run> {
        return http.call("cancel-training", { path: { session_id: sessionId }, signal });
      },
    },
    models: {
      list(sessionId: string, { signal }: CallOptions = {}): Promise<api.ModelList> {
        return http.call("list-models", { path: { session_id: sessionId }, signal });
      },
      /** Check what was published, and read legacy documents; answers what can be downloaded. */
      save(sessionId: string, { signal }: CallOptions = {}): Promise<api.SavedModels> {
        return http.call("save-model", { path: { session_id: sessionId }, signal });
      },
      /** Return a short-lived address of a model's file, once it is made; navigating to it saves the file under its name. */
      async downloadUrl(sessionId: string, choice: api.ModelChoice = {}, { signal }: CallOptions = {}): Promise<string> {
        const query = { ...choice, redirect: "false" };
        return (await finished<api.ModelAddress>("download-model", { path: { session_id: sessionId }, query, signal })).url;
      },
      /** Return a short-lived address of everything of the session as one zip, once it is built. */
      async archiveUrl(sessionId: string, { signal }: CallOptions = {}): Promise<string> {
        const request = { path: { session_id: sessionId }, query: { redirect: "false" }, signal };
        return (await finished<api.ModelAddress>("download-archive", request)).url;
      },
    },
    results: {
      /** Statistics, histograms and thinned out series of the data set's columns. */
      plotVariables(
        sessionId: string,
        { points, columns }: { points?: number; columns?: readonly string[] } = {},
        { signal }: CallOptions = {},
      ): Promise<api.PlotVariables> {
        const query = { points, columns: columns && lineOfCsv(columns) };
        return http.call("plot-variables", { path: { session_id: sessionId }, query, signal });
      },
      /** The charts as data. */
      visualizations(sessionId: string, { signal }: CallOptions = {}): Promise<api.Visualizations> {
        return http.call("visualizations", { path: { session_id: sessionId }, signal });
      },
      /** One chart drawn. */
      async picture(
        sessionId: string,
        name: string,
        look: { format?: "png" | "svg"; theme?: "light" | "dark"; width?: number; scale?: number } = {},
        { signal }: CallOptions = {},
      ): Promise<Blob> {
        const query = { name, format: "svg", ...look };
        return http.blob("visualizations", { path: { session_id: sessionId }, query, signal });
      },
      scalers(sessionId: string, { signal }: CallOptions = {}): Promise<api.Scalers> {
        return http.call("scalers", { path: { session_id: sessionId }, signal });
      },
      evaluationTables(sessionId: string, { signal }: CallOptions = {}): Promise<api.EvaluationTables> {
        return http.call("evaluation-tables", { path: { session_id: sessionId }, signal });
      },
      /** One evaluation table as a CSV file. */
      async evaluationTableFile(sessionId: string, name: string, { signal }: CallOptions = {}): Promise<Blob> {
        const query = { name, format: "csv" };
        return http.blob("evaluation-tables", { path: { session_id: sessionId }, query, signal });
      },
    },
  };
}

function lineOfCsv(cells: readonly string[]): string {
  return cells.map((cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(",");
}

/** Whether something thrown is an error of this client, optionally of a certain code. */
export function isTrainshedError(value: unknown, code?: string): value is TrainshedError {
  return value instanceof TrainshedError && (code === undefined || value.code === code);
}
