import { isTrainshedError, type SessionDetails } from "@trainshed/client";
import type { Signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "../components/icons";
import { Dialog, Empty, FailureNotice, Skeleton, SkeletonRows, State, say } from "../components/parts";
import { failureOf } from "../failures";
import { count, counted, size, when } from "../format";
import { useLoaded, withoutLoading } from "../loading";
import { SESSIONS, TABS, goTo, sessionAddress, type Tab } from "../routes";
import { service } from "../service";
import { queueOf } from "../uploads/queue";
import { DataTab } from "./data";
import { ModelsTab } from "./models";
import { mayBeId, titleOf } from "./names";
import { ResultsTab } from "./results";
import { STATUS } from "./sessions";
import { TrainingTab } from "./training";
import { VariablesTab } from "./variables";

const TAB_NAMES: Record<Tab, string> = { data: "Data", variables: "Variables", training: "Training", models: "Models", results: "Results" };
const REFRESH_MS = 4000;
const RELOAD_MS = 1000;

/** Load again with each change, but not more often than an answer of thousands of files is worth. Returns how to stop. */
function reloadOn(changes: Signal<number>, reload: () => void): () => void {
  let seen = changes.peek();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = (): void => {
    timer = undefined;
    if (changes.peek() === seen) return;
    seen = changes.peek();
    reload();
    timer = setTimeout(look, RELOAD_MS);
  };
  const stop = changes.subscribe(() => {
    if (timer === undefined) look();
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}

interface Address {
  sessionId: string;
  tab: Tab;
}

/** Everything about one session. */
export function SessionPage({ sessionId, tab }: Address) {
  if (mayBeId(sessionId)) return <AddressedSession sessionId={sessionId} tab={tab} />;
  return (
    <>
      <a class="crumb" href={SESSIONS}>Sessions</a>
      <div class="panel">
        <Empty isAll title="There is no such session." act={<a class="button" href={SESSIONS}>To the sessions</a>}>
          The address asks for “<span class="name">{sessionId}</span>”, and no session can have that id: it may have letters, digits and . _ ~ : @ - in it, but no slash, and not dots alone.
        </Empty>
      </div>
    </>
  );
}

function AddressedSession({ sessionId, tab }: Address) {
  const queue = queueOf(sessionId);
  const loaded = useLoaded(
    (signal) => service().sessions.get(sessionId, { signal }),
    [sessionId],
    (session) => (session && session.status !== "trained" && session.status !== "failed" ? REFRESH_MS : null),
  );
  const session = loaded.value;
  useEffect(() => reloadOn(queue.changes, loaded.reload), [queue]);
  useEffect(() => {
    document.title = `${session ? titleOf(session) : sessionId} · Trainshed`;
    return () => {
      document.title = "Trainshed";
    };
  }, [session]);

  const failure = loaded.error ? failureOf(loaded.error) : null;
  // What cannot get better by itself, such as a session that was deleted meanwhile, takes the place of what was seen of it.
  if (failure && (!session || !failure.mayRetry)) {
    const act = failure.mayRetry ? <button type="button" class="button" onClick={loaded.reload}>Try again</button> : <a class="button" href={SESSIONS}>To the sessions</a>;
    return (
      <>
        <a class="crumb" href={SESSIONS}>Sessions</a>
        <div class="panel"><Empty isAll title={failure.title} act={act}>{failure.advice}</Empty></div>
      </>
    );
  }
  return (
    <>
      <Head session={session} sessionId={sessionId} />
      <nav class="tabs" aria-label="Parts of the session">
        {TABS.map((name) => (
          <a key={name} href={sessionAddress(sessionId, name)} aria-current={name === tab ? "page" : undefined}>{TAB_NAMES[name]}</a>
        ))}
      </nav>
      {session ? (
        <>
          {/* The training says by itself that it is not followed any more. */}
          {loaded.error && tab !== "training" ? <div class="toolbar"><FailureNotice error={loaded.error} retry={loaded.reload} /></div> : null}
          {tab === "data" ? <DataTab session={session} reload={loaded.reload} /> : null}
          {tab === "variables" ? <VariablesTab session={session} /> : null}
          {tab === "training" ? <TrainingTab session={session} reload={loaded.reload} /> : null}
          {tab === "models" ? <ModelsTab session={session} /> : null}
          {tab === "results" ? <ResultsTab session={session} /> : null}
        </>
      ) : <SkeletonRows rows={4} label="Loading the session" />}
    </>
  );
}

function Head({ session, sessionId }: { session: SessionDetails | undefined; sessionId: string }) {
  const [isAsking, setAsking] = useState(false);
  if (!session) {
    return (
      <div class="page-head">
        <div>
          <a class="crumb" href={SESSIONS}>Sessions</a>
          <h1>{sessionId}</h1>
          <dl class="facts"><div><dt><Skeleton width="60px" /></dt><dd><Skeleton width="90px" /></dd></div></dl>
        </div>
      </div>
    );
  }
  const status = STATUS[session.status] ?? { word: session.status };
  const rows = session.n_dat ?? session.files.reduce((sum, file) => sum + (file.n_rows ?? 0), 0);
  return (
    <>
      <div class="page-head">
        <div>
          <a class="crumb" href={SESSIONS}>Sessions</a>
          <h1>{titleOf(session)}</h1>
        </div>
        <button type="button" class="button quiet" onClick={() => setAsking(true)}><Icon name="trash" /> Delete</button>
      </div>
      <dl class="facts" style={{ marginBottom: "var(--s5)" }}>
        <div><dt>State</dt><dd><State tone={status.tone}>{status.word}</State></dd></div>
        <div><dt>Files</dt><dd>{count(session.total_files)}</dd></div>
        <div><dt>Rows</dt><dd>{count(rows)}</dd></div>
        <div><dt>Size</dt><dd>{size(session.files.reduce((sum, file) => sum + file.size, 0))}</dd></div>
        <div class="wide-only"><dt>Created</dt><dd>{when(session.created_at)}</dd></div>
        <div class="wide-only"><dt>Id</dt><dd class="mono">{session.session_id}</dd></div>
      </dl>
      {isAsking ? <DeleteDialog session={session} onClose={() => setAsking(false)} /> : null}
    </>
  );
}

/** Somebody else may have deleted it, or we have, and the answer was lost on its way. */
function unlessGone(reason: unknown): void {
  if (!isTrainshedError(reason, "session_not_found")) throw reason;
}

function DeleteDialog({ session, onClose }: { session: SessionDetails; onClose: () => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const remove = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await withoutLoading(async () => {
        await queueOf(session.session_id).cancelAll();
        await service().sessions.remove(session.session_id).catch(unlessGone);
        say(`“${titleOf(session)}” is deleted.`);
        goTo(SESSIONS);
      });
    } catch (reason) {
      setError(reason);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Delete this session?" {...(busy ? {} : { onClose })}>
      <p>
        “{titleOf(session)}” goes with its {counted(session.total_files, "file")}, all its models and results. This cannot be undone.
      </p>
      {error ? <FailureNotice error={error} /> : null}
      <form class="actions" style={{ padding: 0 }} onSubmit={(event) => void remove(event)}>
        <button type="button" class="button" onClick={onClose} disabled={busy}>Keep it</button>
        <button type="submit" class="button danger" disabled={busy}>{busy ? "Deleting …" : "Delete session"}</button>
      </form>
    </Dialog>
  );
}
