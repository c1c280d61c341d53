/** The functions that users call, by the names of functions/manifest.yaml (compared by tests/architecture). */
export const ROUTES = {
  "init-session": { method: "POST", path: "/init-session" },
  "list-sessions": { method: "GET", path: "/list-sessions" },
  "get-session": { method: "GET", path: "/session/{session_id}" },
  "delete-session": { method: "POST", path: "/session/{session_id}/delete" },
  "create-upload": { method: "POST", path: "/uploads" },
  "sign-chunks": { method: "POST", path: "/uploads/{upload_id}/chunks" },
  "get-upload": { method: "GET", path: "/uploads/{upload_id}" },
  "assemble-upload": { method: "POST", path: "/uploads/{upload_id}/assemble" },
  "abort-upload": { method: "POST", path: "/uploads/{upload_id}/abort" },
  "finalize-session": { method: "POST", path: "/finalize-session" },
  train: { method: "POST", path: "/train/{session_id}" },
  "get-training": { method: "GET", path: "/train/{session_id}" },
  "cancel-training": { method: "POST", path: "/train/{session_id}/cancel" },
  "save-model": { method: "POST", path: "/save-model/{session_id}" },
  "list-models": { method: "GET", path: "/list-models-database/{session_id}" },
  "download-model": { method: "GET", path: "/download-model-h5/{session_id}" },
  "download-archive": { method: "GET", path: "/download-archive/{session_id}" },
  "plot-variables": { method: "GET", path: "/plot-variables/{session_id}" },
  visualizations: { method: "GET", path: "/visualizations/{session_id}" },
  scalers: { method: "GET", path: "/scalers/{session_id}" },
  "evaluation-tables": { method: "GET", path: "/evaluation-tables/{session_id}" },
} as const satisfies Record<string, { method: "GET" | "POST"; path: string }>;

/** A function's name, as in the map of addresses that Terraform outputs. */
export type FunctionName = keyof typeof ROUTES;
