import type { Model, ModelFile, SessionDetails } from "@trainshed/client";
import { useState } from "preact/hooks";
import { Icon } from "../components/icons";
import { Empty, FailureNotice, Notice, SkeletonRows, State } from "../components/parts";
import { counted, measure, metricName, size, when, words } from "../format";
import { useLoaded } from "../loading";
import { sessionAddress } from "../routes";
import { service } from "../service";

const FORMAT_NAMES: Record<string, string> = { keras: "Keras", h5: "HDF5", skops: "skops", pkl: "Pickle", onnx: "ONNX", joblib: "joblib" };
const WORDS: Record<string, { word: string; tone?: "busy" | "good" | "bad" | "warn" }> = {
  queued: { word: "Waiting", tone: "busy" },
  training: { word: "Training", tone: "busy" },
  pending: { word: "Being checked", tone: "busy" },
  ready: { word: "Ready", tone: "good" },
  failed: { word: "Failed", tone: "bad" },
  refused: { word: "Refused", tone: "bad" },
  unsupported: { word: "Not supported", tone: "warn" },
  cancelled: { word: "Cancelled", tone: "warn" },
};
const REFRESH_MS = 3000;

/** The models of a session, with every format they can be taken home in. */
export function ModelsTab({ session }: { session: SessionDetails }) {
  const { value, error, reload } = useLoaded(
    (signal) => service().models.list(session.session_id, { signal }),
    [session.session_id, session.status],
    // A training that has just begun has no models yet.
    (list) => (session.status === "training" || list?.models.some(({ status }) => WORDS[status]?.tone === "busy") ? REFRESH_MS : null),
  );
  if (error && !value) return <FailureNotice error={error} retry={reload} />;
  if (!value) return <SkeletonRows rows={3} label="Loading the models" />;
  const hasReady = value.models.some(({ status }) => status === "ready");
  return (
    <div class="stack">
      {error ? <FailureNotice error={error} retry={reload} /> : null}
      {value.unread_documents > 0 ? <Unread session={session} n={value.unread_documents} reload={reload} /> : null}
      {value.models.length === 0 ? (
        <div class="panel">
          <Empty title="No models yet" act={<a class="button" href={sessionAddress(session.session_id, "training")}>To the training</a>}>
            What is trained on this data set is listed here, with all formats that it can be downloaded in.
          </Empty>
        </div>
      ) : (
        <section class="panel" aria-label="Models">
          <header>
            <h2>{counted(value.models.length, "model")}</h2>
            {hasReady ? <Archive session={session} /> : null}
          </header>
          <ul>{value.models.map((model) => <ModelRow key={model.id} model={model} session={session} />)}</ul>
        </section>
      )}
    </div>
  );
}

function Unread({ session, n, reload }: { session: SessionDetails; n: number; reload: () => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const read = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      await service().models.save(session.session_id);
      reload();
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  };
  return (
    <>
      <Notice title={`${counted(n, "results document")} of the old backend ${n === 1 ? "has" : "have"} not been read.`} act={<button type="button" class="button small" disabled={busy} onClick={() => void read()}>{busy ? "Reading …" : "Read now"}</button>}>
        Reading takes about three seconds for each 100 MiB. Nothing in it is run.
      </Notice>
      {error ? <FailureNotice error={error} retry={() => void read()} /> : null}
    </>
  );
}

function ModelRow({ model, session }: { model: Model; session: SessionDetails }) {
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const status = WORDS[model.status] ?? { word: words(model.status) };
  const test = Object.entries(model.metrics?.["test"] ?? {}).slice(0, 4);
  const download = async (format: string): Promise<void> => {
    setBusy(format);
    setError(null);
    try {
      // The bucket answers with an attachment, so this page stays.
      location.assign(await service().models.downloadUrl(session.session_id, { id: model.id, format }));
    } catch (reason) {
      setError(reason);
    }
    setBusy(null);
  };
  return (
    <li class="model" data-model={model.name}>
      <div class="top">
        <div>
          <div class="title">
            <h3>{words(model.name)}</h3>
            {model.version === null ? null : <span class="tag">v{model.version}</span>}
            {model.aliases.map((alias) => <span key={alias} class={`tag${alias === "best" ? " accent" : ""}`}>{alias}</span>)}
            {model.status === "ready" ? null : <State tone={status.tone}>{status.word}</State>}
          </div>
          <p class="class mono">{model.class ?? "Class not known"}</p>
          <dl class="facts">
            {test.map(([name, value]) => <div key={name}><dt>{metricName(name)}, test</dt><dd>{measure(value)}</dd></div>)}
            <div class="wide-only"><dt>Made</dt><dd>{when(model.created_at)}</dd></div>
          </dl>
        </div>
        <div class="downloads">
          {model.formats.map((file) => <DownloadButton key={file.format} file={file} name={model.name} busy={busy === file.format} onClick={() => void download(file.format)} />)}
        </div>
      </div>
      {model.status_detail ? <p class={model.status === "ready" ? "hint" : "field-error"}>{model.status_detail}</p> : null}
      {error ? <FailureNotice error={error} /> : null}
      <Details model={model} />
    </li>
  );
}

const RUNS_CODE = "Opening this file runs code that its writer chose. Take another format unless you trust where it comes from.";

function DownloadButton({ file, name, busy, onClick }: { file: ModelFile; name: string; busy: boolean; onClick: () => void }) {
  const format = FORMAT_NAMES[file.format] ?? file.format;
  return (
    <button type="button" class="button small" disabled={busy} title={file.loads_code ? RUNS_CODE : undefined} aria-label={`Download ${words(name)} as ${format}, ${size(file.size)}${file.loads_code ? ". Runs code when opened" : ""}`} onClick={onClick}>
      <Icon name="down" size={14} />
      {format} <span class="hint">{size(file.size)}</span>
      {file.loads_code ? <span class="tag warn"><Icon name="warn" size={12} /> runs code when opened</span> : null}
    </button>
  );
}

function Details({ model }: { model: Model }) {
  const features = model.features ?? [];
  const findings = Array.isArray(model["findings"]) ? (model["findings"] as unknown[]) : [];
  const claimed = model["claimed_class"];
  return (
    <details>
      <summary>Details</summary>
      <div>
        <dl class="facts">
          <div><dt>Path</dt><dd><code>{model.path}</code></dd></div>
          <div><dt>Framework</dt><dd>{model.framework}</dd></div>
          <div><dt>Origin</dt><dd>{words(model.origin)}</dd></div>
          {typeof claimed === "string" && claimed !== model.class ? <div><dt>Claimed class</dt><dd><code>{claimed}</code></dd></div> : null}
        </dl>
        {features.length > 0 ? <p><span class="hint">{counted(features.length, "feature")}, in this order: </span>{features.slice(0, 100).join(", ")}{features.length > 100 ? ", …" : ""}</p> : null}
        {model.requires.length > 0 ? (
          <div>
            <p class="hint">Needed to open it</p>
            <ul>{model.requires.map((need) => <li key={need.package + need.specifier}><code>{need.package}{need.specifier}</code> <span class="hint">{need.reason}</span></li>)}</ul>
          </div>
        ) : null}
        {model.requirements.length > 0 ? <p><span class="hint">Made with </span><code>{model.requirements.join(" ")}</code></p> : null}
        {findings.length > 0 ? <Notice tone="warn" title="What was noticed in the file">{findings.map((finding) => (typeof finding === "string" ? finding : JSON.stringify(finding))).join("; ")}</Notice> : null}
        {model.formats.length > 0 ? (
          <ul>{model.formats.map((file) => <li key={file.format}><span class="hint">{FORMAT_NAMES[file.format] ?? file.format} sha256 </span><code>{file.sha256}</code></li>)}</ul>
        ) : null}
      </div>
    </details>
  );
}

/** Everything of the session in one file. */
function Archive({ session }: { session: SessionDetails }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const download = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      location.assign(await service().models.archiveUrl(session.session_id));
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" class="button small" disabled={busy} title="Models, scalers, tables and charts, with a program that checks them" onClick={() => void download()}>
        <Icon name="down" size={14} /> {busy ? "Putting it together …" : "Everything as a zip"}
      </button>
      {error ? <FailureNotice error={error} retry={() => void download()} /> : null}
    </>
  );
}
