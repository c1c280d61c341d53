import type { Session, SessionStatus } from "@trainshed/client";
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../components/icons";
import { Empty, FailureNotice, SkeletonRows, State } from "../components/parts";
import { ago, count, when } from "../format";
import { NEW_SESSION, goTo, sessionAddress } from "../routes";
import { service } from "../service";
import { dropped, sift } from "../uploads/dropped";
import { NothingToUpload } from "./drop";
import { titleOf } from "./names";
import { bring } from "./new-session";

const PAGE = 50;
// Who types goes on typing: one request for the word, not one for each letter of it.
const SEARCH_AFTER_MS = 250;
const REFRESH_MS = 10_000;

export const STATUS: Record<SessionStatus, { word: string; tone?: "busy" | "good" | "bad" }> = {
  initialized: { word: "Empty" },
  uploading: { word: "Uploading", tone: "busy" },
  finalized: { word: "Ready to train" },
  training: { word: "Training", tone: "busy" },
  trained: { word: "Trained", tone: "good" },
  failed: { word: "Failed", tone: "bad" },
};

interface List {
  /** What was asked for; everything without. */
  search: string;
  sessions: Session[];
  next: string;
}

/** All sessions of the person, newest first. */
export function SessionsPage() {
  const [list, setList] = useState<List | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [search, setSearch] = useState("");
  const [busy, setBusy] = useState(false);
  const [nothing, setNothing] = useState<string | null>(null);
  const wanted = search.trim();
  const asked = useRef("");
  asked.current = wanted;
  const isSearching = list !== null && list.search !== wanted && !error;

  const load = async (): Promise<void> => {
    setError(null);
    try {
      const page = await service().sessions.list({ limit: PAGE, search: wanted });
      // What was typed since then has a request of its own.
      if (asked.current === wanted) setList({ search: wanted, sessions: page.sessions, next: page.next_page_token });
    } catch (reason) {
      if (asked.current === wanted) setError(reason);
    }
  };
  const more = async (): Promise<void> => {
    if (!list?.next) return;
    setBusy(true);
    try {
      const page = await service().sessions.list({ limit: PAGE, pageToken: list.next, search: list.search });
      const known = new Set(list.sessions.map(({ id }) => id));
      const sessions = [...list.sessions, ...page.sessions.filter(({ id }) => !known.has(id))];
      setList((now) => (now?.search === list.search ? { ...list, sessions, next: page.next_page_token } : now));
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  };

  useEffect(() => {
    const timer = setTimeout(() => void load(), list === null ? 0 : SEARCH_AFTER_MS);
    return () => clearTimeout(timer);
  }, [wanted]);
  useEffect(() => {
    const timer = setInterval(() => {
      const isBusy = list?.sessions.some(({ status }) => STATUS[status]?.tone === "busy");
      if (!list || !isBusy || document.hidden || isSearching || list.sessions.length > PAGE) return;
      void service().sessions.list({ limit: PAGE, search: list.search }).then(
        (page) => setList((now) => (now === list ? { ...list, sessions: page.sessions, next: page.next_page_token } : now)),
        () => undefined,
      );
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [list, isSearching]);

  return (
    <div
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        if (!event.dataTransfer) return;
        void sift(dropped(event.dataTransfer)).then(({ files, why }) => {
          setNothing(why);
          if (why !== null) {
            // Above the list, of which the end may be in view.
            scrollTo(0, 0);
            return;
          }
          bring(files);
          goTo(NEW_SESSION);
        });
      }}
    >
      <div class="page-head">
        <h1>Sessions</h1>
        <a class="button primary" href={NEW_SESSION}><Icon name="plus" /> New session</a>
      </div>
      {nothing === null ? null : <div class="toolbar"><NothingToUpload why={nothing} /></div>}
      {error ? <div class="toolbar"><FailureNotice error={error} retry={() => void load()} /></div> : null}
      {list === null ? (error ? null : <SkeletonRows rows={6} label="Loading the sessions" />) : list.sessions.length === 0 && list.search === "" ? (
        <div class="panel">
          <Empty title="No sessions yet" act={<a class="button primary" href={NEW_SESSION}><Icon name="plus" /> New session</a>}>
            A session takes one data set from its files to trained models. Drop files anywhere on this page, or start here.
          </Empty>
        </div>
      ) : (
        <>
          <div class="toolbar">
            <div class="search-box">
              <Icon name="search" />
              <input class="input search" type="search" aria-label="Search sessions" placeholder="Search by name" value={search} onInput={(event) => setSearch((event.currentTarget as HTMLInputElement).value)} />
            </div>
            <span class="hint" role="status">
              {isSearching ? "Searching …" : `${list.next ? "The newest " : ""}${count(list.sessions.length)}${list.search ? " found" : list.next ? "" : " in all"}`}
            </span>
          </div>
          {list.sessions.length === 0 ? (
            <div class="panel"><Empty title="Nothing found">No session has “{list.search}” in its name. Check the spelling, or search for a part of it.</Empty></div>
          ) : (
            <div class="panel table-box">
              <table class="table">
                <thead>
                  <tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Rows</th><th scope="col" class="number wide-only">Created</th></tr>
                </thead>
                <tbody>{list.sessions.map((session) => <Row key={session.id} session={session} />)}</tbody>
              </table>
            </div>
          )}
          {list.next && !isSearching ? (
            <div class="toolbar" style={{ marginTop: "var(--s4)" }}>
              <button type="button" class="button" disabled={busy} onClick={() => void more()}>{busy ? "Loading …" : "Show older"}</button>
            </div>
          ) : null}
        </>
      )}
    </div>
  );
}

function Row({ session }: { session: Session }) {
  const status = STATUS[session.status] ?? { word: session.status };
  const title = titleOf(session);
  return (
    <tr>
      <td class="name">
        <a class="row" href={sessionAddress(session.session_id)} title={title}>{title}</a>
        {title === session.session_id ? null : <div class="hint mono">{session.session_id}</div>}
      </td>
      <td><State tone={status.tone}>{status.word}</State></td>
      <td class="number">{session.n_dat === null ? <span class="hint">–</span> : count(session.n_dat)}</td>
      <td class="number wide-only"><time dateTime={session.created_at} title={when(session.created_at)}>{ago(session.created_at)}</time></td>
    </tr>
  );
}
