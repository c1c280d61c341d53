/** Where this deployment's servers are: `config.json` beside the page, read once at the start. */
export interface Configuration {
  /** Of Supabase, for signing in. */
  supabaseUrl: string;
  supabasePublishableKey: string;
  /** Front door of the functions; or `urls`. */
  baseUrl?: string;
  /** Address by function, as Terraform outputs them. */
  urls?: Record<string, string>;
  /** Ready-made users, which only the local stack has. */
  people?: { email: string; password: string }[];
}

/** Says that the page was deployed without what it needs; the text is for whoever deploys it. */
export class ConfigurationError extends Error {}

/**
 * Read `config.json`.
 *
 * @throws ConfigurationError - it is not there, or lacks something
 */
export async function loadConfiguration(): Promise<Configuration> {
  const answer = await fetch("config.json", { cache: "no-cache" }).catch(() => null);
  if (!answer) throw new ConfigurationError("The server of this page does not answer. Check the network, then load the page again.");
  if (!answer.ok) throw new ConfigurationError(`config.json is missing beside this page (${answer.status}).`);
  const found = (await answer.json().catch(() => null)) as Partial<Configuration> | null;
  if (typeof found !== "object" || found === null) throw new ConfigurationError("config.json is not a JSON object.");
  const missing = (["supabaseUrl", "supabasePublishableKey"] as const).filter((name) => typeof found[name] !== "string");
  if (missing.length > 0) throw new ConfigurationError(`config.json lacks ${missing.join(" and ")}.`);
  if (typeof found.baseUrl !== "string" && typeof found.urls !== "object") {
    throw new ConfigurationError("config.json needs baseUrl, or urls with the address of each function.");
  }
  return found as Configuration;
}
