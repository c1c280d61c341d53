import { type SessionDetails, type SessionUpload, type Table } from "@trainshed/client";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Scrolling } from "../charts/chart";
import { Icon } from "../components/icons";
import { FailureNotice, Notice, Progress } from "../components/parts";
import { failureOf } from "../failures";
import { count, counted, duration, rate, size, when } from "../format";
import { useLoaded } from "../loading";
import { goTo, sessionAddress } from "../routes";
import { service } from "../service";
import { PAUSABLE, queueOf, type Item, type SessionQueue } from "../uploads/queue";
import { DropZone } from "./drop";

const PAGE = 40;
const LOOK_MS = 5000;
const OPEN_STATES: ReadonlySet<string> = new Set(["open", "assembling"]);

/** The files of a session: those on their way, those that wait for their owner, those that are in. */
export function DataTab({ session, reload }: { session: SessionDetails; reload: () => void }) {
  const queue = queueOf(session.session_id);
  void queue.version.value;
  const namesIn = useMemo(() => new Set(session.files.map(({ name }) => name)), [session]);
  // One that failed is over when another file of its name is in.
  const unfinished = useMemo(() => session.uploads.filter(({ state, fileName }) => OPEN_STATES.has(state) || (state === "failed" && !namesIn.has(fileName))), [session]);
  const isOpen = session.status === "initialized" || session.status === "uploading";
  const elsewhere = unfinished.filter(({ state, fileName }) => state !== "failed" && (queue.find(fileName)?.state.value ?? "failed") === "failed");
  const failed = unfinished.filter(({ state, fileName }) => state === "failed" && !queue.find(fileName));
  /** Let go of a file that has failed. What failed at the service as well would keep the data set from being completed. */
  const putAway = async (item: Item): Promise<void> => {
    queue.forget(item);
    const left = unfinished.find(({ state, fileName }) => state === "failed" && fileName === item.name);
    if (!left) return;
    try {
      await service().uploads.abort(left.uploadId);
    } catch {
      // It stays in the list of what is unfinished, and is discarded there.
    }
    reload();
  };
  const isBegun = queue.size > 0 || unfinished.length > 0 || session.files.length > 0;
  return (
    <div class="stack">
      {isOpen ? (
        <DropZone compact={isBegun} title={isBegun ? "Add files" : "Drop the files of your data set here"} hint="CSV or TSV, plain or gzip. To continue an upload, bring the same file again." onFiles={(files) => void queue.add(files)} />
      ) : null}
      <Sending queue={queue} namesIn={namesIn} putAway={(item) => void putAway(item)} />
      {elsewhere.length > 0 || failed.length > 0 ? <Elsewhere uploads={[...elsewhere, ...failed]} reload={reload} /> : null}
      <Preview tables={queue.tables.value} unfinished={elsewhere[0]} />
      {session.files.length > 0 ? <Files session={session} /> : null}
      {isOpen && session.files.length > 0 ? <Finish session={session} isBusy={queue.isLive || unfinished.length > 0} reload={reload} /> : null}
      {session.status === "finalized" ? (
        <Notice tone="good" title="The data set is complete." act={<a class="button small" href={sessionAddress(session.session_id, "training")}>Train models</a>}>
          {counted(session.n_dat ?? 0, "row")} in {counted(session.total_files, "file")}.
        </Notice>
      ) : null}
    </div>
  );
}

function Sending({ queue, namesIn, putAway }: { queue: SessionQueue; namesIn: ReadonlySet<string>; putAway: (item: Item) => void }) {
  const [shown, setShown] = useState(PAGE);
  void queue.version.value;
  const { items, rest } = queue.first(shown, (name) => namesIn.has(name));
  if (items.length === 0) return null;
  return (
    <section class="panel" aria-label="Uploads">
      {queue.size > 1 ? <Overall queue={queue} /> : null}
      <ul>
        {items.map((item) => <FileRow key={item.key} item={item} queue={queue} putAway={putAway} />)}
      </ul>
      {rest > 0 ? (
        <div class="file">
          <span class="hint">and {counted(rest, "more file")}</span>
          <button type="button" class="button small" onClick={() => setShown(shown + PAGE)}>Show more</button>
        </div>
      ) : null}
      {queue.isLive ? null : <span class="visually-hidden" role="status">All uploads have ended.</span>}
    </section>
  );
}

function Overall({ queue }: { queue: SessionQueue }) {
  void queue.version.value;
  const { files, filesIn, bytes, storedBytes, sentBytes, bytesPerSecond, paused, pausable } = queue.totals;
  const rest = bytesPerSecond > 0 ? (bytes - storedBytes) / bytesPerSecond : null;
  return (
    <div class="overall">
      <div class="line">
        <strong>{count(filesIn)} of {counted(files, "file")} in</strong>
        <span class="hint">
          {size(storedBytes)} of {size(bytes)}
          {bytesPerSecond > 0 ? ` · ${rate(bytesPerSecond)}` : ""}
          {rest === null ? "" : ` · ${duration(rest)} left`}
        </span>
      </div>
      <Progress share={bytes > 0 ? storedBytes / bytes : 1} ahead={bytes > 0 ? sentBytes / bytes : 0} label="All files" />
      {queue.isLive ? (
        <div class="actions">
          {pausable > 0 ? <button type="button" class="button small" onClick={() => queue.pauseAll()}><Icon name="pause" /> Pause all</button> : null}
          {paused > 0 ? <button type="button" class="button small" onClick={() => queue.resumeAll()}><Icon name="play" /> Resume all</button> : null}
          <button type="button" class="button small quiet" onClick={() => void queue.cancelAll()}><Icon name="close" /> Cancel all</button>
        </div>
      ) : null}
    </div>
  );
}

function FileRow({ item, queue, putAway }: { item: Item; queue: SessionQueue; putAway: (item: Item) => void }) {
  const state = item.state.value;
  const progress = item.progress.value;
  const total = item.file.size;
  const stored = state === "assembled" || state === "assembling" ? total : (progress?.storedBytes ?? 0);
  const share = total > 0 ? stored / total : state === "assembled" ? 1 : 0;
  const ahead = total > 0 ? Math.max(stored, progress?.sentBytes ?? 0) / total : 0;
  const failure = item.error.value ? failureOf(item.error.value) : null;
  const problem = item.table.value?.problem;
  return (
    <li class="file" data-file={item.name} data-state={state}>
      <div class="who"><span class="name">{item.name}</span> <span class="hint">{size(total)}</span></div>
      <div class="buttons">
        {PAUSABLE.has(state) ? <RowButton icon="pause" label={`Pause ${item.name}`} onClick={() => queue.pause(item)} /> : null}
        {state === "paused" ? <RowButton icon="play" label={`Resume ${item.name}`} onClick={() => queue.resume(item)} /> : null}
        {state === "failed" ? <RowButton icon="retry" label={`Try ${item.name} again`} onClick={() => queue.retry(item)} /> : null}
        {state === "failed" ? <RowButton icon="close" label={`Put ${item.name} away`} onClick={() => putAway(item)} /> : null}
        {PAUSABLE.has(state) || state === "paused" || state === "waiting" ? <RowButton icon="close" label={`Cancel ${item.name}`} onClick={() => void queue.cancel(item)} /> : null}
      </div>
      <Progress share={state === "assembling" ? verifiedShare(progress?.verifiedBytes, total) : state === "hashing" && stored === 0 ? null : share} ahead={state === "assembling" ? 0 : ahead} {...toneOf(state)} label={item.name} />
      <div class="line">
        <span>{stateText(item)}</span>
        <span>{progress && state === "uploading" ? pace(progress.bytesPerSecond, progress.remainingSeconds) : ""}</span>
      </div>
      {failure ? <p class="trouble" role="alert">{failure.title} {failure.advice}</p> : null}
      {!failure && problem ? <p class="trouble" role="alert">This file cannot be trained on: {problem}</p> : null}
    </li>
  );
}

function toneOf(state: string): { tone?: "bad" | "still" } {
  if (state === "failed") return { tone: "bad" };
  return state === "paused" || state === "offline" ? { tone: "still" } : {};
}

function stateText(item: Item): string {
  const progress = item.progress.value;
  const stored = `${size(progress?.storedBytes ?? 0)} of ${size(item.file.size)}`;
  switch (item.state.value) {
    case "waiting": return "Waits for its turn";
    case "hashing": return progress?.storedBytes ? `${stored} in, comparing with your file` : "Preparing";
    case "uploading": return `${stored} in`;
    case "paused": return `Paused, ${stored} in`;
    case "offline": return `No network, ${stored} in. Goes on by itself`;
    case "assembling": return progress?.verifiedBytes ? `Everything sent, ${verified(progress.verifiedBytes, item.file.size)}` : "Everything sent, putting it together";
    case "assembled": return item.nRows.value === null ? "In" : `In, ${counted(item.nRows.value, "row")}`;
    case "failed": return "Stopped";
    case "aborted": return "Cancelled";
  }
}

/** How far the service has read the joined file; null while it has not begun, or has not said so. */
function verifiedShare(verifiedBytes: number | null | undefined, bytes: number | null): number | null {
  return verifiedBytes && bytes ? verifiedBytes / bytes : null;
}

function verified(verifiedBytes: number, bytes: number | null): string {
  return `checking it: ${size(verifiedBytes)} of ${size(bytes ?? 0)}`;
}

function pace(bytesPerSecond: number | null, remainingSeconds: number | null): string {
  if (!bytesPerSecond) return "";
  return rate(bytesPerSecond) + (remainingSeconds === null ? "" : ` · ${duration(remainingSeconds)} left`);
}

function RowButton({ icon, label, onClick }: { icon: "pause" | "play" | "retry" | "close"; label: string; onClick: () => void }) {
  return <button type="button" class="button quiet small icon" aria-label={label} title={label} onClick={onClick}><Icon name={icon} /></button>;
}

/** Uploads that this tab does not send: begun before a reload, in another tab or browser, or failed. */
function Elsewhere({ uploads, reload }: { uploads: readonly SessionUpload[]; reload: () => void }) {
  const [error, setError] = useState<unknown>(null);
  const discard = async (uploadId: string): Promise<void> => {
    setError(null);
    try {
      await service().uploads.abort(uploadId);
    } catch (reason) {
      setError(reason);
    }
    reload();
  };
  return (
    <section class="panel" aria-label="Unfinished uploads">
      <header>
        <div>
          <h2>Unfinished</h2>
          <p class="hint">Not sent from this tab. Drop or choose the same file again, and it goes on where it stopped.</p>
        </div>
      </header>
      <ul>
        {uploads.slice(0, PAGE).map((upload) => (
          <li class="file" key={upload.uploadId} data-unfinished={upload.fileName}>
            <div class="who"><span class="name">{upload.fileName}</span> <span class="hint">{upload.size === null ? "" : size(upload.size)}</span></div>
            <div class="buttons">
              {upload.state === "assembling" ? null : (
                <button type="button" class="button quiet small" onClick={() => void discard(upload.uploadId)}>Discard</button>
              )}
            </div>
            {upload.state === "failed" ? (
              <p class="trouble">{upload.failure?.detail ?? "It failed."}</p>
            ) : <Stored upload={upload} />}
          </li>
        ))}
        {uploads.length > PAGE ? <li class="file hint">and {counted(uploads.length - PAGE, "more upload")}</li> : null}
      </ul>
      {error ? <FailureNotice error={error} /> : null}
    </section>
  );
}

function Stored({ upload }: { upload: SessionUpload }) {
  const { value } = useLoaded((signal) => service().uploads.get(upload.uploadId, { signal }), [upload.uploadId], () => LOOK_MS);
  const share = value?.size ? value.receivedBytes / value.size : 0;
  const assembling = value?.verifiedBytes ? `Being put together, ${verified(value.verifiedBytes, value.size)}` : "Being put together";
  return (
    <>
      <Progress share={upload.state === "assembling" ? verifiedShare(value?.verifiedBytes, upload.size) : share} tone="still" label={upload.fileName} />
      <div class="line"><span>{upload.state === "assembling" ? assembling : value ? `${size(value.receivedBytes)} of ${size(value.size ?? 0)} in` : " "}</span></div>
    </>
  );
}

/** What the first chunk tells of a table: its columns and first rows. */
function Preview({ tables, unfinished }: { tables: readonly Item[]; unfinished: SessionUpload | undefined }) {
  const [chosen, setChosen] = useState<number | null>(null);
  const item = tables.find(({ key }) => key === chosen) ?? tables[0];
  if (!item?.table.value) return unfinished ? <FoundTable uploadId={unfinished.uploadId} name={unfinished.fileName} /> : null;
  return (
    <section class="panel" aria-label="First rows">
      <header>
        <h2>First rows</h2>
        {tables.length > 1 ? (
          <select class="select" style={{ width: "auto", maxWidth: "100%" }} aria-label="File" value={item.key} onChange={(event) => setChosen(Number((event.currentTarget as HTMLSelectElement).value))}>
            {tables.map(({ key, name }) => <option key={key} value={key}>{name}</option>)}
          </select>
        ) : <span class="hint">{written(item.table.value)}</span>}
      </header>
      <TableHead table={item.table.value} rows={item.rows.value} name={item.name} />
    </section>
  );
}

function FoundTable({ uploadId, name }: { uploadId: string; name: string }) {
  // It is not known before the first chunk is in.
  const { value } = useLoaded((signal) => service().uploads.get(uploadId, { signal }), [uploadId], (found) => (found?.table ? null : LOOK_MS));
  if (!value?.table || value.table.problem) return null;
  return (
    <section class="panel" aria-label="Columns">
      <header><h2>Columns of {name}</h2><span class="hint">{written(value.table)}</span></header>
      <TableHead table={value.table} rows={[]} name={name} />
    </section>
  );
}

const DELIMITERS: Record<string, string> = { ",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars" };

function written({ delimiter, encoding, compression, columns }: Table): string {
  const parts = [counted(columns.length, "column"), encoding?.toUpperCase(), delimiter && DELIMITERS[delimiter], compression];
  return parts.filter(Boolean).join(" · ");
}

const MOST_COLUMNS = 40;

function TableHead({ table, rows, name }: { table: Table; rows: readonly string[][]; name: string }) {
  const columns = table.columns.slice(0, MOST_COLUMNS);
  const rest = table.columns.length - columns.length;
  return (
    <Scrolling label={`First rows of ${name}`}>
      <table class="table dense first-rows">
        <thead>
          <tr>
            {columns.map((column, n) => (
              <th key={n} scope="col" class={isNumber(column.type) ? "number" : ""}>{column.name}<span class="type">{column.type}</span></th>
            ))}
            {rest > 0 ? <th scope="col">and {count(rest)} more</th> : null}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, n) => (
            <tr key={n}>{columns.map((column, at) => <td key={at} class={isNumber(column.type) ? "number" : ""}>{row[at] ?? ""}</td>)}{rest > 0 ? <td>…</td> : null}</tr>
          ))}
        </tbody>
      </table>
    </Scrolling>
  );
}

function isNumber(type: string): boolean {
  return type === "integer" || type === "number";
}

function Files({ session }: { session: SessionDetails }) {
  const [shown, setShown] = useState(PAGE);
  return (
    <section class="panel" aria-label="Files">
      <header><h2>Files</h2><span class="hint">{counted(session.files.length, "file")}</span></header>
      <Scrolling label="Files of the session">
        <table class="table">
          <thead><tr><th scope="col">Name</th><th scope="col" class="number">Rows</th><th scope="col" class="number">Size</th><th scope="col" class="number wide-only">In since</th></tr></thead>
          <tbody>
            {session.files.slice(0, shown).map((file) => (
              <tr key={file.name}>
                <td class="name">{file.name}</td>
                <td class="number">{file.n_rows === null ? <span class="hint">no table</span> : count(file.n_rows)}</td>
                <td class="number">{size(file.size)}</td>
                <td class="number wide-only">{when(file.modified)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scrolling>
      {session.files.length > shown ? <div class="file"><span /><button type="button" class="button small" onClick={() => setShown(shown + PAGE)}>Show more</button></div> : null}
    </section>
  );
}

function Finish({ session, isBusy, reload }: { session: SessionDetails; isBusy: boolean; reload: () => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => setError(null), [isBusy]);
  const finish = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      await service().sessions.finalize(session.session_id);
      reload();
      goTo(sessionAddress(session.session_id, "training"));
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  };
  return (
    <div class="stack tight">
      <Notice
        title="Is everything in?"
        act={<button type="button" class="button primary" disabled={busy || isBusy} onClick={() => void finish()}>Complete the data set</button>}
      >
        {isBusy ? "Finish the uploads above first, and put away or discard what failed." : "Then complete the data set and train on it. No more files can be added afterwards."}
      </Notice>
      {error ? <FailureNotice error={error} retry={() => void finish()} /> : null}
    </div>
  );
}

