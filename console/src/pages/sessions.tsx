import type { Session, SessionStatus } from "@trainshed/client";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "../components/icons";
import { Empty, FailureNotice, SkeletonRows, State } from "../components/parts";
import { ago, count, counted, when } from "../format";
import { NEW_SESSION, goTo, sessionAddress } from "../routes";
import { service } from "../service";
import { dropped, isClutter } from "../uploads/dropped";
import { titleOf } from "./names";
import { bring } from "./new-session";

const PAGE = 50;
const LARGEST_PAGE = 200;
// A search asks for at most five pages; whoever has more sessions is told how far it went, and may go on.
const SEARCHED_AT_ONCE = 5 * LARGEST_PAGE;
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
  sessions: Session[];
  next: string;
}

/** All sessions of the person, newest first. */
export function SessionsPage() {
  const [list, setList] = useState<List | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [search, setSearch] = useState("");
  const [busy, setBusy] = useState(false);
  const [reach, setReach] = useState(SEARCHED_AT_ONCE);
  const wanted = search.trim().toLowerCase();
  const shown = list?.sessions.filter((session) => matches(session, wanted)) ?? [];

  const load = async (): Promise<void> => {
    setError(null);
    try {
      const page = await service().sessions.list({ limit: PAGE });
      setList({ sessions: page.sessions, next: page.next_page_token });
    } catch (reason) {
      setError(reason);
    }
  };
  const more = async (limit = PAGE): Promise<void> => {
    if (!list?.next) return;
    setBusy(true);
    try {
      const page = await service().sessions.list({ limit, pageToken: list.next });
      const known = new Set(list.sessions.map(({ id }) => id));
      setList({ sessions: [...list.sessions, ...page.sessions.filter(({ id }) => !known.has(id))], next: page.next_page_token });
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  };

  useEffect(() => void load(), []);
  const isSearching = wanted !== "" && Boolean(list?.next) && !error && (list?.sessions.length ?? 0) < reach;
  // What one searches may be on a later page.
  useEffect(() => {
    if (isSearching && !busy) void more(LARGEST_PAGE);
  }, [isSearching, list, busy]);
  useEffect(() => {
    const timer = setInterval(() => {
      const isBusy = list?.sessions.some(({ status }) => STATUS[status]?.tone === "busy");
      if (!isBusy || document.hidden || list?.sessions.length !== Math.min(PAGE, list?.sessions.length ?? 0)) return;
      void service().sessions.list({ limit: PAGE }).then((page) => setList({ sessions: page.sessions, next: page.next_page_token }), () => undefined);
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [list]);

  return (
    <div
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        if (!event.dataTransfer) return;
        void dropped(event.dataTransfer).then((files) => {
          bring(files.filter((file) => !isClutter(file)));
          goTo(NEW_SESSION);
        });
      }}
    >
      <div class="page-head">
        <h1>Sessions</h1>
        <a class="button primary" href={NEW_SESSION}><Icon name="plus" /> New session</a>
      </div>
      {error ? <div class="toolbar"><FailureNotice error={error} retry={() => void load()} /></div> : null}
      {list === null ? (error ? null : <SkeletonRows rows={6} label="Loading the sessions" />) : list.sessions.length === 0 ? (
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
              {wanted ? `${count(shown.length)} found${isSearching ? ", still searching" : list.next ? ` among the newest ${count(list.sessions.length)}` : ""}` : list.next ? `The newest ${count(list.sessions.length)}` : `${count(list.sessions.length)} in all`}
            </span>
          </div>
          {shown.length === 0 && !isSearching ? (
            <div class="panel"><Empty title="Nothing found">{list.next ? `None of the newest ${counted(list.sessions.length, "session")}` : "No session"} has “{search.trim()}” in its name. Check the spelling, or search for a part of it.</Empty></div>
          ) : (
            <div class="panel table-box">
              <table class="table">
                <thead>
                  <tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Rows</th><th scope="col" class="number wide-only">Created</th></tr>
                </thead>
                <tbody>{shown.map((session) => <Row key={session.id} session={session} />)}</tbody>
              </table>
            </div>
          )}
          {list.next && !isSearching ? (
            <div class="toolbar" style={{ marginTop: "var(--s4)" }}>
              {wanted ? (
                <button type="button" class="button" onClick={() => setReach(list.sessions.length + SEARCHED_AT_ONCE)}>Search older</button>
              ) : (
                <button type="button" class="button" disabled={busy} onClick={() => void more()}>{busy ? "Loading …" : "Show older"}</button>
              )}
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
        <a class="row" href={sessionAddress(session.session_id)}>{title}</a>
        {title === session.session_id ? null : <div class="hint mono">{session.session_id}</div>}
      </td>
      <td><State tone={status.tone}>{status.word}</State></td>
      <td class="number">{session.n_dat === null ? <span class="hint">–</span> : count(session.n_dat)}</td>
      <td class="number wide-only"><time dateTime={session.created_at} title={when(session.created_at)}>{ago(session.created_at)}</time></td>
    </tr>
  );
}

function matches(session: Session, wanted: string): boolean {
  return wanted === "" || session.session_id.toLowerCase().includes(wanted) || titleOf(session).toLowerCase().includes(wanted);
}
