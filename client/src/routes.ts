/** The functions that users call, with how long each may take [s], as in functions/manifest.yaml (compared by tests/architecture). */
export const ROUTES = {
  "init-session": { method: "POST", path: "/init-session", timeoutS: 30 },
  "list-sessions": { method: "GET", path: "/list-sessions", timeoutS: 30 },
  "get-session": { method: "GET", path: "/session/{session_id}", timeoutS: 30 },
  "delete-session": { method: "POST", path: "/session/{session_id}/delete", timeoutS: 300 },
  "create-upload": { method: "POST", path: "/uploads", timeoutS: 60 },
  "sign-chunks": { method: "POST", path: "/uploads/{upload_id}/chunks", timeoutS: 60 },
  "get-upload": { method: "GET", path: "/uploads/{upload_id}", timeoutS: 60 },
  "assemble-upload": { method: "POST", path: "/uploads/{upload_id}/assemble", timeoutS: 300 },
  "abort-upload": { method: "POST", path: "/uploads/{upload_id}/abort", timeoutS: 300 },
  "finalize-session": { method: "POST", path: "/finalize-session", timeoutS: 60 },
  train: { method: "POST", path: "/train/{session_id}", timeoutS: 60 },
  "get-training": { method: "GET", path: "/train/{session_id}", timeoutS: 30 },
  "cancel-training": { method: "POST", path: "/train/{session_id}/cancel", timeoutS: 60 },
  "save-model": { method: "POST", path: "/save-model/{session_id}", timeoutS: 540 },
  "list-models": { method: "GET", path: "/list-models-database/{session_id}", timeoutS: 30 },
  "download-model": { method: "GET", path: "/download-model-h5/{session_id}", timeoutS: 60 },
  "download-archive": { method: "GET", path: "/download-archive/{session_id}", timeoutS: 120 },
  "plot-variables": { method: "GET", path: "/plot-variables/{session_id}", timeoutS: 300 },
  visualizations: { method: "GET", path: "/visualizations/{session_id}", timeoutS: 60 },
  scalers: { method: "GET", path: "/scalers/{session_id}", timeoutS: 30 },
  "evaluation-tables": { method: "GET", path: "/evaluation-tables/{session_id}", timeoutS: 30 },
} as const satisfies Record<string, { method: "GET" | "POST"; path: string; timeoutS: number }>;

/** A function's name, as in the map of addresses that Terraform outputs. */
export type FunctionName = keyof typeof ROUTES;
