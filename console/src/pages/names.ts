import type { Metadata } from "@trainshed/client";
import { service } from "../service";

const LONGEST_SLUG = 60;

/** What people call a session: the title that was given to it, else its id. */
export function titleOf(session: { session_id: string; metadata: Metadata }): string {
  const title = session.metadata["title"];
  return typeof title === "string" && title.trim() !== "" ? title : session.session_id;
}

/** A session id of the letters that one may have: "Büro, 3. Stock" as "buro-3.stock". */
export function slug(title: string): string {
  const plain = title.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const text = plain.replace(/[^a-z0-9._~-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "");
  return text.slice(0, LONGEST_SLUG) || "session";
}

/** Make a session of this title, with an id that is like it, and return the id. */
export async function createSession(title: string): Promise<string> {
  const wish = slug(title);
  // Making a session that exists answers that one: only what we made has this mark.
  const mark = crypto.randomUUID();
  for (let n = 1; ; n += 1) {
    // After a few it is quicker to take one that nobody else can have.
    const id = n === 1 ? wish : n < 5 ? `${wish}-${n}` : `${wish}-${mark.slice(0, 8)}`;
    const made = await service().sessions.init(id, { title, mark });
    if (made.metadata["mark"] === mark) return id;
  }
}

/** A title for files that have none, from the path of the first: the file's name without its ending, or the folder's. */
export function titleFor(path: string): string {
  const [first = path, ...inner] = path.split("/");
  return inner.length > 0 ? first : first.replace(/\.(csv|tsv|txt|parquet|json)?(\.gz)?$/i, "") || first;
}

/** Whether a session can have this id: it is a part of a path, which a slash would cut in two and dots alone would take away. */
export function mayBeId(text: string): boolean {
  return !text.includes("/") && !/^\.+$/.test(text);
}
