import { TrainshedError } from "@trainshed/client";

/** What went wrong and what to do about it, in words for the person at the screen. */
export interface Failure {
  title: string;
  advice: string;
  /** Whether trying again can help. */
  mayRetry: boolean;
}

const ADVICE: Record<string, string> = {
  unreachable: "Check the network. Nothing that was sent is lost.",
  cors: "That is for whoever runs this deployment to mend; nothing that was sent is lost.",
  unauthenticated: "Sign in again.",
  forbidden: "Sign in as somebody who may, or ask whoever runs this deployment.",
  subscription_required: "Ask whoever pays for Trainshed in your team to start or renew a subscription.",
  storage_limit_reached: "Delete sessions that you no longer need, or ask for a larger plan.",
  processing_limit_reached: "Wait until the next period begins, or ask for a larger plan.",
  too_large: "Choose a smaller file, or split this one.",
  file_exists: "Cancel the other upload first, or rename the file.",
  session_finalized: "Start a new session for more files.",
  data_set_invalid: "Mend the file and upload it again.",
  file_changed: "Choose the original file to continue, or cancel this upload and begin again.",
  file_unreadable: "Choose it again to continue. Nothing that was sent is lost.",
  model_unavailable: "Take one of the other formats.",
  training_in_progress: "Wait for it, or cancel it first.",
  session_busy: "Wait a moment, then try again.",
  session_not_found: "It may have been deleted, or it belongs to somebody else.",
  internal_error: "Try again. If it stays, report it with the number below.",
};

export function failureOf(error: unknown): Failure {
  if (!(error instanceof TrainshedError)) {
    return { title: "Something in this page went wrong.", advice: "Load the page again.", mayRetry: true };
  }
  const { code, detail, details, retryable, requestId, status } = error;
  if (code === "invalid_field" && details["field"] === "fileName") {
    return { title: `This file's name is not allowed: ${detail.replace(/^fileName: /, "")}.`, advice: "Rename the file, then choose it again.", mayRetry: false };
  }
  let advice = ADVICE[code] ?? (retryable ? "Wait a moment, then try again." : "");
  if (code === "unexpected_answer" && status === 403) advice = "Something on the way refuses it: try another network, without VPN or filter, or ask whoever runs this deployment.";
  if (code === "processing_limit_reached" && typeof details["resetsAt"] === "string") {
    advice = `It begins anew on ${new Date(details["resetsAt"]).toLocaleDateString("en", { dateStyle: "long" })}.`;
  }
  if (status >= 500 && requestId) advice = `${advice} Number: ${requestId}`.trim();
  return { title: detail, advice, mayRetry: retryable || code === "unreachable" || code === "cors" || status >= 500 };
}
