import type { PlottedColumn, PlottedFile, SessionDetails } from "@trainshed/client";
import { useState } from "preact/hooks";
import { Histogram } from "../charts/chart";
import { useWidth } from "../charts/frame";
import { extent, linear, padded } from "../charts/scale";
import { Icon } from "../components/icons";
import { Empty, FailureNotice, Skeleton } from "../components/parts";
import { count, counted, measure, percent } from "../format";
import { useLoaded } from "../loading";
import { sessionAddress } from "../routes";
import { service } from "../service";

const PAGE = 24;
const POINTS = 240;

/** Every column of the data set as a picture and a few numbers. */
export function VariablesTab({ session }: { session: SessionDetails }) {
  const stamp = session.files.map(({ name, size }) => `${name} ${size}`);
  const { value, error, reload } = useLoaded((signal) => service().results.plotVariables(session.session_id, { points: POINTS }, { signal }), [session.session_id, stamp]);
  const [chosen, setChosen] = useState(0);
  const [search, setSearch] = useState("");
  const [shown, setShown] = useState(PAGE);
  if (session.files.length === 0) {
    return (
      <div class="panel">
        <Empty title="Nothing to look at yet" act={<a class="button" href={sessionAddress(session.session_id)}>To the files</a>}>
          As soon as a file is in, every column of it is shown here: how its values are spread, how they run, how many are missing.
        </Empty>
      </div>
    );
  }
  if (error) return <FailureNotice error={error} retry={reload} />;
  if (!value) return <Waiting />;
  const file = value.files[chosen] ?? value.files[0];
  if (!file) {
    return <div class="panel"><Empty title="No tables">None of the files is a table that can be read, so there are no columns to show.</Empty></div>;
  }
  const wanted = search.trim().toLowerCase();
  const columns = file.columns.filter(({ name }) => name.toLowerCase().includes(wanted));
  return (
    <>
      <div class="toolbar">
        {value.files.length > 1 ? (
          <select class="select" style={{ width: "auto", maxWidth: "100%" }} aria-label="File" value={chosen} onChange={(event) => setChosen(Number((event.currentTarget as HTMLSelectElement).value))}>
            {value.files.map(({ name }, n) => <option key={name} value={n}>{name}</option>)}
          </select>
        ) : null}
        <div class="search-box">
          <Icon name="search" />
          <input class="input search" type="search" aria-label="Search columns" placeholder="Search columns" value={search} onInput={(event) => setSearch((event.currentTarget as HTMLInputElement).value)} />
        </div>
        <span class="hint" role="status">{summary(file, columns.length, wanted !== "")}</span>
      </div>
      {columns.length === 0 ? <div class="panel"><Empty title="Nothing found">No column has “{search.trim()}” in its name.</Empty></div> : null}
      <div class="grid">{columns.slice(0, shown).map((column) => <Variable key={column.name} column={column} rows={rowsOf(file)} />)}</div>
      {columns.length > shown ? (
        <div class="toolbar" style={{ marginTop: "var(--s4)" }}>
          <button type="button" class="button" onClick={() => setShown(shown + PAGE)}>Show {counted(Math.min(PAGE, columns.length - shown), "more column")}</button>
        </div>
      ) : null}
    </>
  );
}

function rowsOf(file: PlottedFile): number {
  return file.n_rows_read ?? file.n_rows;
}

function summary(file: PlottedFile, found: number, isSearched: boolean): string {
  const columns = isSearched ? `${counted(found, "column")} found` : counted(file.columns.length, "column");
  return file.is_sampled ? `${columns}, from ${count(rowsOf(file))} of ${counted(file.n_rows, "row")}` : `${columns}, ${counted(file.n_rows, "row")}`;
}

function Variable({ column, rows }: { column: PlottedColumn; rows: number }) {
  const share = rows > 0 ? column.missing / rows : 0;
  const commonest = (column["commonest"] as { value: string; count: number }[] | undefined) ?? [];
  return (
    <article class="panel variable">
      <header>
        <h2>{column.name}</h2>
        <span class="tag">{column.type}</span>
      </header>
      {column.histogram ? (
        <>
          {column.histogram.count.length > 0 ? (
            <Histogram label={`How the values of ${column.name} are spread`} from={column.histogram.from} to={column.histogram.to} heights={column.histogram.count} height={132} />
          ) : <div class="plot" style={{ height: "132px" }}><p class="hint">No values.</p></div>}
          <Run column={column} />
          <dl>
            <div><dt>Least</dt><dd>{measure(column.min)}</dd></div>
            <div><dt>Median</dt><dd>{measure(column.median)}</dd></div>
            <div><dt>Mean</dt><dd>{measure(column.mean)}</dd></div>
            <div><dt>Greatest</dt><dd>{measure(column.max)}</dd></div>
          </dl>
        </>
      ) : (
        <ul class="values" aria-label={`The commonest values of ${column.name}`}>
          {commonest.map(({ value, count: n }) => (
            <li key={value}>
              <i style={{ transform: `scaleX(${n / Math.max(1, column.count)})` }} />
              <span title={value}>{value === "" ? "(empty)" : value}</span>
              <span>{count(n)}</span>
            </li>
          ))}
        </ul>
      )}
      <p class="hint">
        {column.missing === 0 ? "None missing" : `${count(column.missing)} missing (${percent(share)})`}
        {column["unique"] === undefined ? "" : ` · ${count(column["unique"] as number)} different`}
      </p>
    </article>
  );
}

/** How a column runs from the first row to the last. */
function Run({ column }: { column: PlottedColumn }) {
  const { ref, width } = useWidth();
  const height = 44;
  const xs = column.series?.x ?? [];
  const ys = column.series?.y ?? [];
  const [xDomain, yDomain] = [extent(xs), extent(ys)];
  let path = "";
  if (xDomain && yDomain && width > 0) {
    const x = linear(xDomain, [0, width]);
    const y = linear(padded(yDomain), [height, 0]);
    xs.forEach((at, n) => {
      const value = ys[n];
      if (value !== null && value !== undefined) path += `${path === "" ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    });
  }
  return (
    <div ref={ref} class="plot" style={{ height: `${height}px` }}>
      {width > 0 ? <svg width={width} height={height} role="img" aria-label={`How ${column.name} runs from the first row to the last`}><path class="run s1" stroke="currentColor" d={path} /></svg> : null}
    </div>
  );
}

function Waiting() {
  return (
    <div role="status">
      <span class="visually-hidden">Reading the columns</span>
      <div class="toolbar" aria-hidden="true"><Skeleton width="240px" height="var(--control)" /></div>
      <div class="grid" aria-hidden="true">
        {[0, 1, 2, 3, 4, 5].map((n) => (
          <div class="panel variable" key={n}><Skeleton width="40%" /><Skeleton height="132px" /><Skeleton height="44px" /><Skeleton /></div>
        ))}
      </div>
    </div>
  );
}

