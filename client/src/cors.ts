/**
 * Finds out why a browser withheld an answer. A page sees the same bare failure whether the network is down or a CORS
 * rule forbids it to look, and the sentence that names the missing header is only in the developer tools. So we ask again,
 * with one thing at a time. The probes carry no token and no signature: whoever answers them changes nothing.
 */

import type { Fetch } from "./http.js";

/**
 * Say what the functions at `url` do not allow this page; null if it is not a matter of CORS.
 *
 * @param headers - names of the headers that the failed request sent
 */
export async function functionsFault(send: Fetch, url: string, headers: readonly string[]): Promise<string | null> {
  const origin = await foreignOrigin(send, url);
  if (origin === null) return null;
  if (!(await isReadable(send, url, { method: "GET" }))) {
    return confirmed(send, url, `${origin} does not send Access-Control-Allow-Origin for ${location.origin}: add it to the functions' ALLOWED_ORIGINS.`);
  }
  // The functions list what they read; something before them may answer in their place.
  const missing = await unlisted(send, url, "GET", headers);
  if (missing === null) return null;
  const fault = `${origin} does not list ${missing} in Access-Control-Allow-Headers for ${location.origin}`;
  return confirmed(send, url, `${fault}: what is before the functions has to pass OPTIONS on to them.`);
}

/**
 * Say what the bucket does not allow this page; null if it is not a matter of CORS.
 *
 * @param headers - names of the headers that the failed request sent
 */
export async function bucketFault(send: Fetch, url: string, method: string, headers: readonly string[]): Promise<string | null> {
  // Without its query, a signed address is only a name.
  const name = url.replace(/[?#].*/, "");
  const origin = await foreignOrigin(send, name);
  if (origin === null) return null;
  const where = `for ${location.origin}: add it to the bucket's CORS rule (origins, methods or response_headers).`;
  if (!(await isReadable(send, name, { method }))) {
    const knowsOrigin = await isReadable(send, name, { method: "GET" });
    const lack = knowsOrigin ? `list ${method} in Access-Control-Allow-Methods` : "send Access-Control-Allow-Origin";
    return confirmed(send, name, `${origin} does not ${lack} ${where}`);
  }
  const missing = await unlisted(send, name, method, headers);
  return missing && confirmed(send, name, `${origin} does not list ${missing} in Access-Control-Allow-Headers ${where}`);
}

/** Return a fault, unless nobody answers any more: then it was the network that failed our questions. */
async function confirmed(send: Fetch, url: string, fault: string): Promise<string | null> {
  return (await foreignOrigin(send, url)) === null ? null : fault;
}

/** Return which of `headers` may not be sent to `url`, in words; null if all may. */
async function unlisted(send: Fetch, url: string, method: string, headers: readonly string[]): Promise<string | null> {
  const missing: string[] = [];
  for (const header of headers) {
    if (!(await isReadable(send, url, { method, headers: { [header]: "0" } }))) missing.push(header);
  }
  return missing.join(", ") || null;
}

/** Return the origin of `url` if it is another than the page's, and somebody answers there. */
async function foreignOrigin(send: Fetch, url: string): Promise<string | null> {
  if (typeof location === "undefined") return null;
  const { origin } = new URL(url, location.href);
  if (origin === location.origin) return null;
  // An answer that nobody may read is still an answer.
  return (await isReadable(send, url, { method: "GET", mode: "no-cors" })) ? origin : null;
}

async function isReadable(send: Fetch, url: string, init: RequestInit): Promise<boolean> {
  try {
    const answer = await send(url, { ...init, cache: "no-store", credentials: "omit" });
    await answer.body?.cancel();
    return true;
  } catch {
    return false;
  }
}
