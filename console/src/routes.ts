import { computed, signal } from "@preact/signals";

/**
 * Addresses are in the part after `#`, so that any file server can serve the page, and so that a session named `..`
 * is not taken for a step through the path.
 */
export const TABS = ["data", "variables", "training", "models", "results"] as const;
export type Tab = (typeof TABS)[number];

export type Route =
  | { page: "sessions" }
  | { page: "new" }
  | { page: "session"; sessionId: string; tab: Tab }
  | { page: "unknown" };

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed<Route>(() => parse(hash.value));

export function parse(text: string): Route {
  const [first = "", second, third = "data", ...rest] = text.replace(/^#?\/?/, "").split("/");
  if (first === "" && second === undefined) return { page: "sessions" };
  if (first === "new" && second === undefined) return { page: "new" };
  const tab = TABS.find((name) => name === third);
  if (first === "sessions" && second && tab && rest.length === 0) {
    try {
      return { page: "session", sessionId: decodeURIComponent(second), tab };
    } catch {
      return { page: "unknown" };
    }
  }
  return { page: "unknown" };
}

export const SESSIONS = "#/";
export const NEW_SESSION = "#/new";

export function sessionAddress(sessionId: string, tab: Tab = "data"): string {
  return `#/sessions/${encodeURIComponent(sessionId)}${tab === "data" ? "" : `/${tab}`}`;
}

export function goTo(address: string): void {
  location.hash = address.slice(1);
  // The browser's event comes in a later task; until then the page left behind would go on loading.
  hash.value = location.hash;
}
