import { TrainshedError, type Run, type RunModel, type SessionDetails, type TrainingRequest } from "@trainshed/client";
import { useEffect, useState } from "preact/hooks";
import { Frame, type AxisSpec } from "../charts/frame";
import { extent, numberTicks, padded } from "../charts/scale";
import { Empty, FailureNotice, Notice, Progress, SkeletonRows, State } from "../components/parts";
import { counted, duration, measure, metricName, percent, when, words } from "../format";
import { useLoaded } from "../loading";
import { sessionAddress } from "../routes";
import { service } from "../service";
import { MODEL_HINTS, TASKS, TIME_SERIES } from "../training/offers";

const LIVE_MS = 1500;
const IN_PROGRESS = new Set(["queued", "running"]);

/** Start a training, and watch it. */
export function TrainingTab({ session, reload }: { session: SessionDetails; reload: () => void }) {
  const [isAgain, setAgain] = useState(false);
  const { value: run, error, reload: reloadRun } = useLoaded(
    (signal) => newestRun(session, signal),
    [session.session_id],
    (found) => (found && IN_PROGRESS.has(found.status) ? LIVE_MS : null),
  );
  const isRunning = Boolean(run && IN_PROGRESS.has(run.status));
  // The state of the session follows that of its run.
  useEffect(() => reload(), [run?.status]);

  if (session.status === "initialized" || session.status === "uploading") {
    return (
      <div class="panel">
        <Empty title="The data set is not complete" act={<a class="button" href={sessionAddress(session.session_id)}>To the files</a>}>
          Bring in all files, then complete the data set. After that it can be trained on.
        </Empty>
      </div>
    );
  }
  if (error && !run) return <FailureNotice error={error} retry={reloadRun} />;
  if (run === undefined) return <SkeletonRows rows={3} label="Loading the training" />;
  const started = (): void => {
    setAgain(false);
    reloadRun();
    reload();
  };
  return (
    <div class="stack">
      {error ? <FailureNotice error={error} retry={reloadRun} /> : null}
      {run && !isAgain ? <Progressing run={run} session={session} reload={started} /> : null}
      {run && !isAgain && !isRunning ? (
        <div class="actions" style={{ justifyContent: "flex-start" }}>
          {run.status === "completed" ? <a class="button primary" href={sessionAddress(session.session_id, "results")}>Compare the models</a> : null}
          <button type="button" class="button" onClick={() => setAgain(true)}>Train again</button>
        </div>
      ) : null}
      {run === null || isAgain ? <TrainForm session={session} before={run} onStarted={started} {...(run ? { onCancel: () => setAgain(false) } : {})} /> : null}
    </div>
  );
}

/** Return the newest run, or null. A session that was never trained is not asked for one, because that is a failure. */
async function newestRun({ session_id: sessionId, status }: SessionDetails, signal: AbortSignal): Promise<Run | null> {
  const mayHaveRun = status === "training" || status === "trained" || status === "failed";
  if (!mayHaveRun && (await service().models.list(sessionId, { signal })).models.every(({ origin }) => origin === "legacy")) return null;
  try {
    return await service().training.get(sessionId, { signal });
  } catch (reason) {
    if (reason instanceof TrainshedError && reason.code === "run_not_found") return null;
    throw reason;
  }
}

function TrainForm({ session, before, onStarted, onCancel }: { session: SessionDetails; before: Run | null; onStarted: () => void; onCancel?: () => void }) {
  const columns = useLoaded((signal) => service().results.plotVariables(session.session_id, { points: 10 }, { signal }), [session.session_id]);
  const [target, setTarget] = useState(before?.target ?? "");
  const [taskName, setTask] = useState<string | null>(before?.task ?? null);
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const [testPercent, setTestPercent] = useState(Math.round((before?.testFraction ?? 0.2) * 100));
  const [timeColumn, setTimeColumn] = useState(before?.timeColumn ?? "");
  const [horizon, setHorizon] = useState(before?.horizon ?? 1);
  const [seed, setSeed] = useState(before?.seed ?? 42);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const variables = new Map((columns.value?.files ?? []).flatMap((file) => file.columns).map((column) => [column.name, column.type]));
  const names = columns.value?.variables ?? [...variables.keys()];
  const usual = isNumeric(variables.get(target)) ? "regression" : "classification";
  const task = TASKS.find(({ name }) => name === (taskName ?? usual)) ?? TASKS[0];
  const models = (task?.models ?? []).filter((name) => !left.has(name));
  const isSeries = task?.name === TIME_SERIES;
  const wanting = target === "" ? "Choose the column to predict." : models.length === 0 ? "Choose a model." : null;

  const start = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    if (!task) return;
    setBusy(true);
    setError(null);
    const request: TrainingRequest = { target, task: task.name, models, testFraction: testPercent / 100, seed };
    if (isSeries) {
      request["horizon"] = horizon;
      if (timeColumn) request["timeColumn"] = timeColumn;
    }
    try {
      await service().training.start(session.session_id, request);
      onStarted();
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  };
  const toggle = (name: string): void => {
    const next = new Set(left);
    if (!next.delete(name)) next.add(name);
    setLeft(next);
  };
  if (columns.error) return <FailureNotice error={columns.error} retry={columns.reload} />;
  if (!columns.value) return <SkeletonRows rows={3} label="Reading the columns" />;
  return (
    <form class="panel" onSubmit={(event) => void start(event)}>
      <header><h2>Train models</h2></header>
      <div class="body train-form">
        <div class="row">
          <div class="field">
            <label for="target">Column to predict</label>
            <select class="select" id="target" required value={target} onChange={(event) => setTarget((event.currentTarget as HTMLSelectElement).value)}>
              <option value="" disabled>Choose a column</option>
              {names.map((name) => <option key={name} value={name}>{name}{variables.has(name) ? ` (${variables.get(name)})` : ""}</option>)}
            </select>
          </div>
          <div class="field">
            <label for="test">Held out for the test: {testPercent} %</label>
            <input id="test" type="range" min={5} max={50} step={5} value={testPercent} onInput={(event) => setTestPercent(Number((event.currentTarget as HTMLInputElement).value))} />
          </div>
          <div class="field">
            <label for="seed">Seed</label>
            <input class="input" id="seed" type="number" min={0} max={4294967295} step={1} required value={seed} onInput={(event) => setSeed(Number((event.currentTarget as HTMLInputElement).value))} />
          </div>
        </div>
        {TASKS.length > 1 ? (
          <fieldset>
            <legend>Task</legend>
            <div class="choices">
              {TASKS.map(({ name, title }) => (
                <label class="choice" key={name}>
                  <input type="radio" name="task" value={name} checked={task?.name === name} onChange={() => setTask(name)} />
                  <strong>{words(name)}</strong>
                  <span>{title}{target && taskName === null && name === usual ? ", as the column suggests" : ""}</span>
                </label>
              ))}
            </div>
          </fieldset>
        ) : null}
        {isSeries ? (
          <div class="row">
            <div class="field">
              <label for="time">Column with the time</label>
              <select class="select" id="time" value={timeColumn} onChange={(event) => setTimeColumn((event.currentTarget as HTMLSelectElement).value)}>
                <option value="">None, the rows are in order</option>
                {names.filter((name) => name !== target).map((name) => <option key={name} value={name}>{name}</option>)}
              </select>
            </div>
            <div class="field">
              <label for="horizon">Steps to forecast</label>
              <input class="input" id="horizon" type="number" min={1} max={168} step={1} required value={horizon} onInput={(event) => setHorizon(Number((event.currentTarget as HTMLInputElement).value))} />
            </div>
          </div>
        ) : null}
        <fieldset>
          <legend>Models</legend>
          <div class="choices">
            {(task?.models ?? []).map((name) => (
              <label class="choice" key={name}>
                <input type="checkbox" name="models" value={name} checked={!left.has(name)} onChange={() => toggle(name)} />
                <strong>{words(name)}</strong>
                <span>{MODEL_HINTS[name]}</span>
              </label>
            ))}
          </div>
        </fieldset>
        {error ? <FailureNotice error={error} /> : null}
        <div class="actions">
          {wanting ? <span class="hint">{wanting}</span> : null}
          {onCancel ? <button type="button" class="button" onClick={onCancel}>Cancel</button> : null}
          <button type="submit" class="button primary" disabled={busy || wanting !== null}>
            {busy ? "Starting …" : `Train ${counted(models.length, "model")}`}
          </button>
        </div>
      </div>
    </form>
  );
}

function isNumeric(type: string | undefined): boolean {
  return type === undefined || type === "integer" || type === "number";
}

const RUN_TONES: Record<string, "busy" | "good" | "bad" | "warn" | undefined> = { queued: "busy", running: "busy", training: "busy", pending: "busy", completed: "good", ready: "good", failed: "bad", refused: "bad", cancelled: "warn" };
const MODEL_WORDS: Record<string, string> = { queued: "Waits for a machine", training: "Training", pending: "Being checked", ready: "Ready", failed: "Failed", refused: "Refused", cancelled: "Cancelled" };

function Progressing({ run, session, reload }: { run: Run; session: SessionDetails; reload: () => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const isRunning = IN_PROGRESS.has(run.status);
  const share = run.models.length > 0 ? run.models.reduce((sum, model) => sum + (model.status === "ready" ? 1 : model.progress), 0) / run.models.length : 0;
  const cancel = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      await service().training.cancel(session.session_id);
    } catch (reason) {
      if (!(reason instanceof TrainshedError && reason.code === "training_finished")) setError(reason);
    }
    setBusy(false);
    reload();
  };
  return (
    <div class="stack">
      <section class="panel" aria-label="Training">
        <header>
          <h2>{words(run.task ?? "training")} of <span class="name">{run.target}</span></h2>
          <State tone={RUN_TONES[run.status]}>{words(run.status)}</State>
        </header>
        <div class="body stack tight">
          <dl class="facts">
            <div><dt>Models</dt><dd>{run.models.length}</dd></div>
            <div><dt>Held out</dt><dd>{run.testFraction === null ? "unknown" : percent(run.testFraction)}</dd></div>
            <div><dt>Seed</dt><dd class="mono">{run.seed}</dd></div>
            {run.horizon ? <div><dt>Steps ahead</dt><dd>{run.horizon}</dd></div> : null}
            {run.timeColumn ? <div><dt>Time</dt><dd>{run.timeColumn}</dd></div> : null}
            <div><dt>Started</dt><dd>{when(run.created_at)}</dd></div>
            {run.finished_at ? <div><dt>Took</dt><dd>{duration((Date.parse(run.finished_at) - Date.parse(run.created_at)) / 1000)}</dd></div> : null}
          </dl>
          {isRunning ? (
            <>
              <Progress share={share} label="Training of all models" />
              <div class="actions"><button type="button" class="button" disabled={busy} onClick={() => void cancel()}>{busy ? "Cancelling …" : "Cancel the training"}</button></div>
            </>
          ) : null}
          {run.stalled ? <Notice tone="warn" title="Nobody has worked on this for ten minutes.">Cancel it and train again; or wait, if the service was just interrupted.</Notice> : null}
          {run.detail && !isRunning ? <Notice tone={run.status === "failed" ? "bad" : "warn"} title={run.detail} /> : null}
          {error ? <FailureNotice error={error} /> : null}
        </div>
      </section>
      <div class="grid" data-n={run.models.length}>{run.models.map((model) => <ModelRun key={model.id} model={model} />)}</div>
    </div>
  );
}

function ModelRun({ model }: { model: RunModel }) {
  const isLive = model.status === "queued" || model.status === "training" || model.status === "pending";
  const tests = Object.entries(model.metrics["test"] ?? {}).slice(0, 3);
  return (
    <article class="panel model-run" data-model={model.name} data-status={model.status}>
      <header>
        <h3>{words(model.name)}</h3>
        <State tone={RUN_TONES[model.status]}>{MODEL_WORDS[model.status] ?? words(model.status)}</State>
      </header>
      {isLive ? <Progress share={model.status === "pending" ? null : model.progress} label={words(model.name)} /> : null}
      {isLive ? (
        <div class="line">
          <span>{model.detail ?? ""}</span>
          <span>{model.remaining_s === null ? "" : `${duration(model.remaining_s)} left`}</span>
        </div>
      ) : model.detail ? <p class={model.status === "ready" ? "hint" : "field-error"}>{model.detail}</p> : null}
      {model.curve && model.curve.step.length > 1 ? <LossCurve model={model} /> : null}
      {tests.length > 0 ? (
        <dl class="facts">{tests.map(([name, value]) => <div key={name}><dt>{metricName(name)}, test</dt><dd>{measure(value)}</dd></div>)}</dl>
      ) : null}
    </article>
  );
}

function LossCurve({ model }: { model: RunModel }) {
  const { step = [], train = [], validation = [] } = model.curve ?? {};
  const xDomain = extent(step);
  const yDomain = extent([...train, ...validation]);
  if (!xDomain || !yDomain) return null;
  const x: AxisSpec = { domain: xDomain, ticks: (most) => numberTicks(xDomain, most, true), title: "step" };
  const wide = padded(yDomain);
  const lines = [{ name: "training", values: train }, { name: "validation", values: validation }].filter(({ values }) => values.some((value) => value !== null));
  return (
    <figure class="chart">
      <Frame label={`Loss of ${words(model.name)} over its steps`} height={150} x={x} y={{ domain: wide, ticks: (most) => numberTicks(wide, most), title: "loss" }}>
        {(area) => lines.map(({ name, values }, n) => (
          <path key={name} class={`curve s${n + 1}`} stroke="currentColor" stroke-dasharray={n === 0 ? "" : "6 3"} d={curve(step, values, area)} />
        ))}
      </Frame>
      <ul class="legend">
        {lines.map(({ name }, n) => (
          <li key={name}><svg class={`s${n + 1}`} width="18" height="10" aria-hidden="true"><path d="M0 5h18" stroke="currentColor" stroke-width="2" stroke-dasharray={n === 0 ? "" : "6 3"} /></svg>{name}</li>
        ))}
      </ul>
    </figure>
  );
}

function curve(xs: readonly number[], ys: readonly (number | null)[], { x, y }: { x: (v: number) => number; y: (v: number) => number }): string {
  let path = "";
  xs.forEach((at, n) => {
    const value = ys[n];
    if (value !== null && value !== undefined) path += `${path === "" ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return path;
}
