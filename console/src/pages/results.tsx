import type { Chart, EvaluationTable, SessionDetails } from "@trainshed/client";
import { useState } from "preact/hooks";
import { ChartFigure, Scrolling, saveBlob } from "../charts/chart";
import { Icon } from "../components/icons";
import { Empty, FailureNotice, SkeletonRows } from "../components/parts";
import { bestOf, measure, metricName, words } from "../format";
import { useLoaded } from "../loading";
import { sessionAddress } from "../routes";
import { service } from "../service";

/** Models beside each other: what they score, where they are wrong. */
export function ResultsTab({ session }: { session: SessionDetails }) {
  const { value, error, reload } = useLoaded(
    async (signal) => {
      const [charts, tables] = await Promise.all([
        service().results.visualizations(session.session_id, { signal }),
        service().results.evaluationTables(session.session_id, { signal }),
      ]);
      return { charts: charts.visualizations, tables: tables.evaluation_tables };
    },
    [session.session_id, session.status],
  );
  if (error) return <FailureNotice error={error} retry={reload} />;
  if (!value) return <SkeletonRows rows={4} label="Loading the results" />;
  if (value.charts.length === 0 && value.tables.length === 0) {
    const isFailed = session.status === "failed";
    return (
      <div class="panel">
        <Empty title={isFailed ? "The training failed, so there are no results" : "No results yet"} act={<a class="button" href={sessionAddress(session.session_id, "training")}>To the training</a>}>
          {isFailed ? "Why is said with each model there, and it can be started again." : "When a training has ended, its models are compared here: scores, predictions against what really was, residuals."}
        </Empty>
      </div>
    );
  }
  const others = value.tables.filter((table) => !isScores(table));
  return (
    <div class="stack">
      {value.tables.filter(isScores).map((table) => <Evaluation key={table.id} table={table} session={session} />)}
      <Charts charts={value.charts} session={session} />
      {others.length > 0 ? <div class="grid wide" data-n={others.length}>{others.map((table) => <Evaluation key={table.id} table={table} session={session} />)}</div> : null}
    </div>
  );
}

function Evaluation({ table, session }: { table: EvaluationTable; session: SessionDetails }) {
  const [error, setError] = useState<unknown>(null);
  const save = async (): Promise<void> => {
    setError(null);
    try {
      saveBlob(await service().results.evaluationTableFile(session.session_id, table.name), `${table.name}.csv`);
    } catch (reason) {
      setError(reason);
    }
  };
  return (
    <section class="panel" aria-label={table.title}>
      <header>
        <h2>{table.title}</h2>
        <button type="button" class="button small" onClick={() => void save()}><Icon name="down" size={14} /> CSV</button>
      </header>
      {error ? <FailureNotice error={error} /> : null}
      <Scrolling label={`Scores: ${table.title}`}>{isScores(table) ? <Scores table={table} /> : <Rows table={table} />}</Scrolling>
    </section>
  );
}

function isScores({ columns }: EvaluationTable): boolean {
  const names = new Set(columns.map(({ name }) => name));
  return ["model", "split", "metric", "value"].every((name) => names.has(name)) && names.size === 4;
}

/** One line per model, one column per metric and part; the best of the held-out part is marked. */
function Scores({ table }: { table: EvaluationTable }) {
  const models = distinct(table, "model");
  const splits = distinct(table, "split").sort((a, b) => Number(b === "test") - Number(a === "test"));
  const metrics = distinct(table, "metric");
  const values = new Map(table.rows.map((row) => [`${String(row["model"])}\n${String(row["split"])}\n${String(row["metric"])}`, row["value"]]));
  const at = (model: string, split: string, metric: string): unknown => values.get(`${model}\n${split}\n${metric}`);
  const best = (split: string, metric: string): number | null => {
    const found = models.map((model) => at(model, split, metric)).filter((value): value is number => typeof value === "number");
    return found.length < 2 ? null : bestOf(metric, found);
  };
  return (
    <table class="table scores">
      <thead>
        <tr>
          <th scope="col" rowSpan={2}>Model</th>
          {splits.map((split) => <th key={split} scope="colgroup" colSpan={metrics.length} class="number">{split === "test" ? "Test, held out" : words(split)}</th>)}
        </tr>
        <tr>{splits.flatMap((split) => metrics.map((metric, n) => <th key={split + metric} scope="col" class={`number${n === 0 ? " begins" : ""}`}>{metricName(metric)}</th>))}</tr>
      </thead>
      <tbody>
        {models.map((model) => (
          <tr key={model}>
            <th scope="row">{words(model)}</th>
            {splits.flatMap((split) => metrics.map((metric) => {
              const value = at(model, split, metric);
              const isBest = split === "test" && value !== undefined && value === best(split, metric);
              return <td key={split + metric} class={`number${isBest ? " best" : ""}`}>{measure(value)}{isBest ? <span class="visually-hidden"> (best)</span> : null}</td>;
            }))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const MOST_ROWS = 200;

function Rows({ table }: { table: EvaluationTable }) {
  const isNumber = (type: string): boolean => type === "number" || type === "integer";
  return (
    <table class="table dense">
      <thead><tr>{table.columns.map(({ name, type }) => <th key={name} scope="col" class={isNumber(type) ? "number" : ""}>{metricName(name)}</th>)}</tr></thead>
      <tbody>
        {table.rows.slice(0, MOST_ROWS).map((row, n) => (
          <tr key={n}>{table.columns.map(({ name, type }) => <td key={name} class={isNumber(type) ? "number" : ""}>{measure(row[name])}</td>)}</tr>
        ))}
      </tbody>
    </table>
  );
}

function distinct(table: EvaluationTable, column: string): string[] {
  return [...new Set(table.rows.map((row) => String(row[column] ?? "–")))];
}

const KIND_TITLES: Record<string, string> = {
  predicted_vs_actual: "Predicted against actual",
  residuals: "Residuals",
  history: "Loss over training",
  confusion: "Confusion",
  importances: "Importance of the features",
  forecast: "Forecast",
  roc: "ROC curve",
  calibration: "Calibration",
};
// Their lines are too dense for a part of the page.
const FULL_WIDTH = new Set(["forecast"]);

/** Charts of one sort beside each other, so that models are compared at a glance. */
function Charts({ charts, session }: { charts: readonly Chart[]; session: SessionDetails }) {
  const groups = new Map<string, Chart[]>();
  for (const chart of charts) {
    const sort = chart.model && chart.name.startsWith(`${chart.model}.`) ? chart.name.slice(chart.model.length + 1) : chart.name;
    groups.set(sort, [...(groups.get(sort) ?? []), chart]);
  }
  return (
    <div class="row-of-panels">
      {[...groups].map(([sort, group]) => (
        <section class={FULL_WIDTH.has(sort) ? "panel whole" : "panel"} key={sort} style={{ "--n": group.length }} aria-label={KIND_TITLES[sort] ?? words(sort)}>
          <header><h2>{KIND_TITLES[sort] ?? words(sort)}</h2>{group.length > 1 ? <span class="hint">{shared(group)}</span> : null}</header>
          <div class={FULL_WIDTH.has(sort) ? "body stack" : "body grid wide"} data-n={group.length}>
            {group.map((chart) => <ChartFigure key={chart.id} chart={chart} among={group} sessionId={session.session_id} title={group.length > 1 && chart.model ? words(chart.model) : chart.title} />)}
          </div>
        </section>
      ))}
    </div>
  );
}

/** The title, where all charts of a group have the same. */
function shared(group: readonly Chart[]): string {
  const titles = new Set(group.map(({ title }) => title));
  return titles.size === 1 ? (group[0]?.title ?? "") : "";
}
