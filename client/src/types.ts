/**
 * The JSON objects of the service, by name. They are those of docs/openapi.yaml, which openapi.ts is generated from
 * (`npm run types`); only what a trainer publishes freely is narrowed down here, as docs/results.md has it.
 */

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

export type SessionStatus = Schemas["SessionStatus"];
export type UploadState = Schemas["UploadState"];
export type RunStatus = Schemas["RunStatus"];
export type ModelStatus = Schemas["ModelStatus"];

export type NewSession = Schemas["NewSession"];
export type Session = Schemas["Session"];
export type SessionPage = Schemas["SessionPage"];
export type SessionDetails = Schemas["SessionDetails"];
export type SessionUpload = Schemas["SessionUpload"];
export type DataFile = Schemas["DataFile"];
export type DeletedSession = Schemas["DeletedSession"];
export type FinalizedSession = Schemas["FinalizedSession"];
export type Metadata = NonNullable<Schemas["InitSession"]["metadata"]>;

export type CreateUpload = Schemas["CreateUpload"];
export type NewUpload = Schemas["NewUpload"];
export type Upload = Schemas["Upload"];
export type UploadProgress = Schemas["UploadProgress"];
export type AbortedUpload = Schemas["AbortedUpload"];
export type SignedChunk = Schemas["SignedChunk"];
export type SignedChunks = Schemas["SignedChunks"];
export type StoredChunk = Schemas["StoredChunk"];
export type WantedChunk = Schemas["WantedChunk"];
export type Failure = Schemas["Failure"];
export type Table = Schemas["TableView"];
export type TableColumn = Schemas["TableColumn"];

export type PlotVariables = Schemas["PlotVariables"];
export type PlottedFile = Schemas["PlottedFile"];
export type PlottedColumn = Schemas["Column"];

/** A deployment's trainer may know other tasks and models than the reference trainer. */
export interface TrainingRequest extends Omit<Schemas["Train"], "task" | "models"> {
  task?: string;
  models?: string[];
}
export type Run = Schemas["Run"];
export type RunModel = Schemas["RunModel"];
export type LearningCurve = Schemas["LearningCurve"];

export type ModelFile = Schemas["ModelFile"];
/** With whatever else its trainer has published of it. */
export type Model = Schemas["Model"] & Record<string, unknown>;
export interface ModelList extends Omit<Schemas["ModelList"], "models"> {
  models: Model[];
}
export interface SavedModels extends Omit<Schemas["SavedModels"], "models"> {
  models: Model[];
}
export type ModelAddress = Schemas["ModelAddress"];
export type Document = Schemas["Document"];

/** A chart as data: the members depend on `kind`. */
export interface Chart {
  id: string;
  run_id: string;
  name: string;
  model: string | null;
  kind: string;
  title: string;
  data: Record<string, unknown[]>;
  [member: string]: unknown;
}

export interface Visualizations extends Omit<Schemas["Visualizations"], "visualizations"> {
  visualizations: Chart[];
}

export interface Scaler {
  id: string;
  run_id: string;
  name: string;
  model: string | null;
  role: string;
  type: string;
  feature_names: string[];
  params: Record<string, unknown>;
  formula: string | null;
  inverse: string | null;
  [member: string]: unknown;
}

export interface Scalers extends Omit<Schemas["Scalers"], "scalers"> {
  scalers: Scaler[];
}

export interface EvaluationTable {
  id: string;
  run_id: string;
  name: string;
  title: string;
  columns: { name: string; type: string; [member: string]: unknown }[];
  rows: Record<string, unknown>[];
}

export interface EvaluationTables extends Omit<Schemas["EvaluationTables"], "evaluation_tables"> {
  evaluation_tables: EvaluationTable[];
}

/** Which file of which model; without any of these, the newest Keras model's. */
export interface ModelChoice {
  id?: string;
  path?: string;
  name?: string;
  version?: number;
  alias?: "latest" | "best";
  type?: "keras" | "sklearn";
  format?: string;
}
