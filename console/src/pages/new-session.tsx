import { useState } from "preact/hooks";
import { Icon } from "../components/icons";
import { FailureNotice } from "../components/parts";
import { counted, size } from "../format";
import { SESSIONS, goTo, sessionAddress } from "../routes";
import type { Dropped } from "../uploads/dropped";
import { queueOf } from "../uploads/queue";
import { DropZone } from "./drop";
import { createSession, titleFor } from "./names";

const MOST_SHOWN = 50;
const LONGEST_TITLE = 200;

/** A new session: files first, then a name, then everything is on its way. */
export function NewSessionPage() {
  const [files, setFiles] = useState<Dropped[]>(takeBrought);
  const [title, setTitle] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const proposal = files[0] ? titleFor(files[0].path) : "";
  const name = title ?? proposal;
  const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
  const add = (more: Dropped[]): void => {
    const known = new Set(files.map(({ path }) => path));
    setFiles([...files, ...more.filter(({ path }) => !known.has(path))]);
  };
  const start = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const text = name.trim().slice(0, LONGEST_TITLE);
      const sessionId = await createSession(text);
      void queueOf(sessionId).add(files);
      goTo(sessionAddress(sessionId));
    } catch (reason) {
      setError(reason);
      setBusy(false);
    }
  };
  return (
    <>
      <div class="page-head">
        <div>
          <a class="crumb" href={SESSIONS}>Sessions</a>
          <h1>New session</h1>
        </div>
      </div>
      <form class="stack" onSubmit={(event) => void start(event)}>
        <DropZone
          compact={files.length > 0}
          title={files.length > 0 ? "Add more files" : "Drop the files of your data set here"}
          hint={files.length > 0 ? "They become part of the same session." : "CSV or TSV, plain or gzip, of any size up to 5 TiB. Several files, or whole folders."}
          onFiles={add}
        />
        {files.length > 0 ? (
          <>
            <div class="panel">
              <header>
                <h2>{counted(files.length, "file")}</h2>
                <span class="hint">{size(bytes)}</span>
              </header>
              <ul>
                {files.slice(0, MOST_SHOWN).map(({ file, path }) => (
                  <li class="file" key={path}>
                    <span class="who"><span class="name">{path}</span> <span class="hint">{size(file.size)}</span></span>
                    <span class="buttons">
                      <button type="button" class="button quiet small icon" aria-label={`Leave out ${path}`} onClick={() => setFiles(files.filter((other) => other.path !== path))}>
                        <Icon name="close" />
                      </button>
                    </span>
                  </li>
                ))}
                {files.length > MOST_SHOWN ? <li class="file hint">and {counted(files.length - MOST_SHOWN, "more file")}</li> : null}
              </ul>
            </div>
            <div class="field" style={{ maxWidth: "640px" }}>
              <label for="title">Name of the session</label>
              <input class="input" id="title" value={name} maxLength={LONGEST_TITLE} required onInput={(event) => setTitle((event.currentTarget as HTMLInputElement).value)} />
            </div>
            {error ? <FailureNotice error={error} /> : null}
            <div class="actions">
              <a class="button" href={SESSIONS}>Cancel</a>
              <button type="submit" class="button primary" disabled={busy || name.trim() === ""}>
                <Icon name="up" /> {busy ? "Starting …" : `Upload ${counted(files.length, "file")}`}
              </button>
            </div>
          </>
        ) : null}
      </form>
    </>
  );
}

let brought: Dropped[] = [];

/** Keep files that were dropped on another page until this one shows. */
export function bring(files: Dropped[]): void {
  brought = files;
}

function takeBrought(): Dropped[] {
  const files = brought;
  brought = [];
  return files;
}
