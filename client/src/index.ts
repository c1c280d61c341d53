export { createClient, isTrainshedError } from "./client.js";
export type { CallOptions, Client, ClientOptions, GetToken, Place } from "./client.js";
export { TrainshedError } from "./errors.js";
export type { ClientErrorCode } from "./errors.js";
export type { FunctionName } from "./routes.js";
export type * from "./types.js";
export { UploadTask } from "./uploads/task.js";
export type { TaskEvents, TaskProgress, TaskState, UploadOptions } from "./uploads/task.js";
