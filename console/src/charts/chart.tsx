import type { Chart } from "@trainshed/client";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { FailureNotice } from "../components/parts";
import { counted, measure } from "../format";
import { service } from "../service";
import { isDark } from "../theme";
import { categories, column, encoding, numbers, seriesOf, type Column, type Series } from "./data";
import { Frame, cut, useWidth, type Area, type AxisSpec } from "./frame";
import { around, dateTicks, extent, numberTicks, padded, type Tick } from "./scale";

const HEIGHT = 260;
const MOST_COLORS = 8;
const MOST_TABLE_ROWS = 100;

/** One chart of the service, drawn from its data; with the data as a table, for those who would rather read. */
export function ChartFigure({ chart, sessionId, title = chart.title, among = [chart] }: {
  chart: Chart;
  sessionId: string;
  title?: string;
  /** Charts that it is compared with: points and bars are drawn on the same axes as theirs. */
  among?: readonly Chart[];
}) {
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <Drawn chart={chart} sessionId={sessionId} among={among} />
      {chart.kind === "picture" ? null : (
        <div class="foot">
          <DataTable chart={chart} />
          <SaveButton chart={chart} sessionId={sessionId} />
        </div>
      )}
    </figure>
  );
}

function Drawn({ chart, sessionId, among }: { chart: Chart; sessionId: string; among: readonly Chart[] }) {
  switch (chart.kind) {
    case "line":
      return <LineChart chart={chart} />;
    case "scatter":
    case "residual":
      return <PointChart chart={chart} among={among} />;
    case "bar":
      return <BarChart chart={chart} />;
    case "histogram":
      return <HistogramChart chart={chart} among={among} />;
    case "heatmap":
    case "confusion":
      return <CellChart chart={chart} />;
    case "picture":
      return <StoredPicture chart={chart} sessionId={sessionId} />;
    default:
      return <p class="hint">This page cannot draw charts of the kind “{chart.kind}”.</p>;
  }
}

function axis(of: Column, domain: readonly [number, number], isWhole = false): AxisSpec {
  return { domain, title: of.title, ticks: (most) => (of.type === "date" ? dateTicks(domain, most) : numberTicks(domain, most, isWhole)) };
}

function NoData() {
  return <div class="plot" style={{ height: `${HEIGHT}px` }}><p class="hint">No data.</p></div>;
}

function summary(chart: Chart, series: readonly Series[], rows: number): string {
  const names = series.filter(({ name }) => name).map(({ name }) => name);
  return `${chart.title}. ${counted(rows, "value")}${names.length > 0 ? `; series: ${names.slice(0, 8).join(", ")}` : ""}.`;
}

function LineChart({ chart }: { chart: Chart }) {
  const x = column(chart, "x");
  const y = column(chart, "y");
  const [at, setAt] = useState<number | null>(null);
  if (!x || !y) return <NoData />;
  const names = x.type === "text" ? categories(x.values) : null;
  const xs = names ? x.values.map((value) => names.indexOf(String(value ?? "–"))) : numbers(x);
  const ys = numbers(y);
  const xFound = extent(xs);
  const yDomain = extent(ys);
  if (!xFound || !yDomain) return <NoData />;
  // Steps and epochs: there is none between two.
  const isWhole = x.type === "number" && xs.every((value) => value === null || Number.isInteger(value));
  const xDomain = around(xFound, isWhole);
  const series = seriesOf(chart, xs.length);
  const xAxis = names ? namedAxis(x.title, names, xDomain) : axis(x, xDomain, isWhole);
  const nearest = at === null ? null : nearestX(xs, xDomain[0] + at * (xDomain[1] - xDomain[0]));
  return (
    <>
      <Frame label={summary(chart, series, ys.length)} height={HEIGHT} x={xAxis} y={axis(y, padded(yDomain))} over={setAt}>
        {(area) => (
          <>
            {series.map(({ name, rows }, n) => (
              <path key={name} class={`curve s${color(n)}`} stroke="currentColor" stroke-dasharray={DASHES[n % DASHES.length]} d={linePath(rows, xs, ys, area)} />
            ))}
            {series.map(({ name, rows }, n) => <path key={name} class={`points s${color(n)}`} stroke="currentColor" stroke-width={6} d={dots(lone(rows, xs, ys), xs, ys, area)} />)}
            {nearest === null ? null : <line class="zero-line" x1={area.x(nearest)} x2={area.x(nearest)} y2={area.height} />}
            {nearest === null ? null : series.map(({ name, rows }, n) => {
              const row = rows.find((candidate) => xs[candidate] === nearest);
              const value = row === undefined ? null : ys[row];
              return value === null || value === undefined ? null : <circle key={name} class={`s${color(n)}`} cx={area.x(nearest)} cy={area.y(value)} r={3.500} fill="currentColor" />;
            })}
          </>
        )}
      </Frame>
      <Legend series={series} kind="line">
        {nearest === null ? null : (name, rows) => {
          const row = rows.find((candidate) => xs[candidate] === nearest);
          return row === undefined ? name : `${name}${name ? " " : ""}${measure(ys[row])}`;
        }}
      </Legend>
    </>
  );
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

function color(n: number): number {
  return (n % MOST_COLORS) + 1;
}

function nearestX(xs: readonly (number | null)[], wanted: number): number | null {
  let best: number | null = null;
  for (const x of xs) if (x !== null && (best === null || Math.abs(x - wanted) < Math.abs(best - wanted))) best = x;
  return best;
}

function linePath(rows: readonly number[], xs: readonly (number | null)[], ys: readonly (number | null)[], { x, y }: Area): string {
  let path = "";
  let pen = "M";
  for (const row of rows) {
    const [atX, atY] = [xs[row], ys[row]];
    if (atX === null || atX === undefined || atY === null || atY === undefined) {
      pen = "M";
      continue;
    }
    path += `${pen}${x(atX).toFixed(1)} ${y(atY).toFixed(1)}`;
    pen = "L";
  }
  return path;
}

/** Single values between gaps, which no line shows. */
function lone(rows: readonly number[], xs: readonly (number | null)[], ys: readonly (number | null)[]): number[] {
  const isThere = (row: number | undefined): boolean => row !== undefined && typeof xs[row] === "number" && typeof ys[row] === "number";
  return rows.filter((row, n) => isThere(row) && !isThere(rows[n - 1]) && !isThere(rows[n + 1]));
}

function PointChart({ chart, among }: { chart: Chart; among: readonly Chart[] }) {
  const x = column(chart, "x");
  const y = column(chart, "y");
  if (!x || !y) return <NoData />;
  const xs = numbers(x);
  const ys = numbers(y);
  const xDomain = extentAmong(among, "x");
  const yFound = extentAmong(among, "y");
  if (!xDomain || !yFound || !extent(xs) || !extent(ys)) return <NoData />;
  const isResidual = chart.kind === "residual";
  const isComparison = encodingName(chart, "x") === "actual" && encodingName(chart, "y") === "predicted";
  const yDomain: [number, number] = isResidual ? [Math.min(0, yFound[0]), Math.max(0, yFound[1])] : yFound;
  const both = padded([Math.min(xDomain[0], yDomain[0]), Math.max(xDomain[1], yDomain[1])]);
  const series = seriesOf(chart, xs.length);
  const dot = xs.length > 2000 ? 2.500 : xs.length > 400 ? 3.500 : 5;
  return (
    <>
      <Frame label={summary(chart, series, xs.length)} height={HEIGHT} x={axis(x, isComparison ? both : padded(xDomain))} y={axis(y, isComparison ? both : padded(yDomain))}>
        {(area) => (
          <>
            {isComparison ? <line class="identity" x1={area.x(both[0])} y1={area.y(both[0])} x2={area.x(both[1])} y2={area.y(both[1])} /> : null}
            {isResidual ? <line class="zero-line" x2={area.width} y1={area.y(0)} y2={area.y(0)} /> : null}
            {series.map(({ name, rows }, n) => (
              // One path for all points: ten thousand elements would make the page slow.
              <path key={name} class={`points s${color(n)}`} stroke="currentColor" stroke-width={dot} stroke-opacity={xs.length > 400 ? 0.55 : 0.75} d={dots(rows, xs, ys, area)} />
            ))}
          </>
        )}
      </Frame>
      <Legend series={series} kind="dot" />
    </>
  );
}

function extentAmong(charts: readonly Chart[], part: "x" | "y"): [number, number] | null {
  return extent(charts.flatMap((chart) => {
    const found = column(chart, part);
    return (found && extent(numbers(found))) ?? [];
  }));
}

function encodingName(chart: Chart, part: "x" | "y"): string {
  const found = chart[part] as { field?: string } | undefined;
  return found?.field ?? "";
}

function dots(rows: readonly number[], xs: readonly (number | null)[], ys: readonly (number | null)[], { x, y }: Area): string {
  let path = "";
  for (const row of rows) {
    const [atX, atY] = [xs[row], ys[row]];
    if (atX === null || atX === undefined || atY === null || atY === undefined) continue;
    path += `M${x(atX).toFixed(1)} ${y(atY).toFixed(1)}h0`;
  }
  return path;
}

function BarChart({ chart }: { chart: Chart }) {
  const x = column(chart, "x");
  const y = column(chart, "y");
  if (!x || !y) return <NoData />;
  const names = categories(x.values);
  const ys = numbers(y);
  const found = extent(ys);
  if (!found || names.length === 0) return <NoData />;
  const series = seriesOf(chart, ys.length);
  const domain: [number, number] = [Math.min(0, found[0]), Math.max(0, found[1])];
  const places = new Map(names.map((name, n) => [name, n]));
  const isLong = names.length > 6 || names.some((name) => name.length > 14);
  if (isLong) return <LyingBars {...{ chart, x, y, ys, names, series, domain }} />;
  return (
    <>
      <Frame label={summary(chart, series, ys.length)} height={HEIGHT} x={namedAxis(x.title, names, [-0.5, names.length - 0.5])} y={axis(y, padded(domain, 0.02))}>
        {(area) => series.map(({ name, rows }, n) => (
          <g key={name} class={`s${color(n)}`} fill="currentColor">
            {rows.map((row) => {
              const value = ys[row];
              if (value === null || value === undefined) return null;
              const thickness = (area.width / names.length) * 0.7 / series.length;
              const start = area.x(places.get(String(x.values[row] ?? "–")) ?? 0) - (thickness * series.length) / 2 + n * thickness;
              const [from, to] = [area.y(0), area.y(value)];
              return <rect key={row} x={start} width={Math.max(1, thickness - 1)} y={Math.min(from, to)} height={Math.max(1, Math.abs(from - to))} />;
            })}
          </g>
        ))}
      </Frame>
      <Legend series={series} kind="box" />
    </>
  );
}

/** Bars on their side, where names need room. */
function LyingBars({ chart, x, y, ys, names, series, domain }: {
  chart: Chart; x: Column; y: Column; ys: readonly (number | null)[]; names: readonly string[]; series: readonly Series[]; domain: readonly [number, number];
}) {
  const places = new Map(names.map((name, n) => [name, n]));
  const row = Math.max(18, 12 * series.length);
  const height = Math.min(2000, names.length * row + 56);
  const ticks = names.map((text, value) => ({ value, text: cut(text, 22) }));
  return (
    <>
      <Frame label={summary(chart, series, ys.length)} height={height} x={axis(y, padded(domain, 0.02))} y={{ domain: [names.length - 0.5, -0.5], ticks: () => ticks, title: x.title }}>
        {(area) => series.map(({ name, rows }, n) => (
          <g key={name} class={`s${color(n)}`} fill="currentColor">
            {rows.map((at) => {
              const value = ys[at];
              if (value === null || value === undefined) return null;
              const thickness = (area.height / names.length) * 0.7 / series.length;
              const start = area.y(places.get(String(x.values[at] ?? "–")) ?? 0) - (thickness * series.length) / 2 + n * thickness;
              const [from, to] = [area.x(0), area.x(value)];
              return <rect key={at} y={start} height={Math.max(1, thickness - 1)} x={Math.min(from, to)} width={Math.max(1, Math.abs(from - to))} />;
            })}
          </g>
        ))}
      </Frame>
      <Legend series={series} kind="box" />
    </>
  );
}

function namedAxis(title: string, names: readonly string[], domain: readonly [number, number]): AxisSpec {
  const ticks: Tick[] = names.map((text, value) => ({ value, text: cut(text, 16) }));
  return { domain, title, ticks: () => ticks };
}

function HistogramChart({ chart, among }: { chart: Chart; among: readonly Chart[] }) {
  const x = column(chart, "x");
  const y = column(chart, "y");
  const ends = endsOf(chart);
  if (!x || !y || !ends) return <NoData />;
  const edges = [...(extentAmong(among, "x") ?? []), ...among.flatMap((other) => extent(endsOf(other) ?? []) ?? [])];
  return <Histogram label={summary(chart, [], x.values.length)} from={numbers(x)} to={ends} heights={numbers(y)} within={edges} xTitle={x.title} yTitle={y.title} height={HEIGHT} />;
}

function endsOf(chart: Chart): (number | null)[] | undefined {
  const to = encoding(chart, "x")?.to;
  return to === undefined ? undefined : (chart.data[to] as (number | null)[] | undefined);
}

export function Histogram({ label, from, to, heights, within = [...from, ...to], xTitle, yTitle, height }: {
  label: string; from: readonly (number | null)[]; to: readonly (number | null)[]; heights: readonly (number | null)[];
  /** What the axis reaches over; without it, the bars alone. Heights have no such thing: bars of other widths hold other numbers. */
  within?: readonly (number | null)[];
  xTitle?: string; yTitle?: string; height: number;
}) {
  const xDomain = extent(within);
  const most = extent(heights)?.[1];
  if (!xDomain || most === undefined) return <NoData />;
  const yDomain = [0, most * 1.04 || 1] as const;
  // Bars of whole numbers begin and end between two of them.
  const isWhole = [...from, ...to].every((edge) => edge === null || Number.isInteger(edge + 0.5));
  const domain = around(xDomain, isWhole);
  return (
    <Frame
      label={label}
      height={height}
      x={{ domain, ticks: (n) => numberTicks(domain, n, isWhole), ...(xTitle ? { title: xTitle } : {}) }}
      y={{ domain: yDomain, ticks: (n) => numberTicks(yDomain, n), ...(yTitle ? { title: yTitle } : {}) }}
    >
      {(area) => (
        <g class="s1" fill="currentColor" fill-opacity="0.85">
          {heights.map((value, n) => {
            const [start, end] = [from[n], to[n]];
            if (value === null || value === undefined || start === null || start === undefined || end === null || end === undefined) return null;
            const left = area.x(start);
            return <rect key={n} x={left} width={Math.max(1, area.x(end) - left - 1)} y={area.y(value)} height={Math.max(0, area.height - area.y(value))} />;
          })}
        </g>
      )}
    </Frame>
  );
}

// Ink on the fullest cell still has a contrast of 4.5, light and dark.
const MOST_SHADE = 0.5;

function CellChart({ chart }: { chart: Chart }) {
  const { ref, width } = useWidth();
  const x = column(chart, "x");
  const y = column(chart, "y");
  const cells = column(chart, "color");
  const values = cells ? numbers(cells) : [];
  const domain = extent(values);
  if (!x || !y || !cells || !domain) return <NoData />;
  const across = categories(x.values);
  const down = categories(y.values);
  const left = Math.min(120, Math.max(40, ...down.map((name) => Math.min(16, name.length) * 6.4 + 12)));
  const side = Math.max(6, Math.min(64, (width - left - 8) / across.length));
  const height = Math.max(14, Math.min(40, side));
  const total = 30 + down.length * height + 40;
  const isNamed = across.length <= 15 && down.length <= 15;
  const [least, most] = [Math.min(0, domain[0]), domain[1]];
  const isSigned = domain[0] < 0;
  const reach = Math.max(Math.abs(domain[0]), Math.abs(domain[1])) || 1;
  return (
    <div ref={ref} class="plot" style={{ height: `${total}px` }}>
      {width > 0 ? (
        <svg width={width} height={total} role="img" aria-label={summary(chart, [], values.length)}>
          <text x={0} y={11}>{cut(y.title, width / 6.4)}</text>
          <g transform={`translate(${left},24)`}>
            {down.map((name, n) => isNamed || n % Math.ceil(down.length / 15) === 0 ? <text key={name} x={-8} y={n * height + height / 2} dy="0.35em" text-anchor="end">{cut(name, 16)}</text> : null)}
            {across.map((name, n) => isNamed || n % Math.ceil(across.length / 15) === 0 ? <text key={name} x={n * side + side / 2} y={down.length * height + 15} text-anchor="middle">{cut(name, side / 6.2)}</text> : null)}
            <text x={(across.length * side) / 2} y={down.length * height + 34} text-anchor="middle">{cut(x.title, width / 6.4)}</text>
            {values.map((value, row) => {
              if (value === null) return null;
              const strength = isSigned ? Math.abs(value) / reach : (value - least) / (most - least || 1);
              const [atX, atY] = [across.indexOf(String(x.values[row] ?? "–")) * side, down.indexOf(String(y.values[row] ?? "–")) * height];
              return (
                <g key={row}>
                  <rect class={isSigned && value < 0 ? "s2" : "s1"} x={atX} y={atY} width={side - 1} height={height - 1} fill="currentColor" fill-opacity={0.04 + MOST_SHADE * strength} />
                  {isNamed && side >= 28 ? <text x={atX + side / 2} y={atY + height / 2} dy="0.35em" text-anchor="middle" style={{ fill: "var(--ink)" }}>{cut(measure(value), side / 6.2)}</text> : null}
                </g>
              );
            })}
          </g>
        </svg>
      ) : null}
    </div>
  );
}

function StoredPicture({ chart, sessionId }: { chart: Chart; sessionId: string }) {
  const [address, setAddress] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    const controller = new AbortController();
    let made: string | null = null;
    service().results.picture(sessionId, chart.name, { format: "png" }, { signal: controller.signal }).then(
      (blob) => {
        made = URL.createObjectURL(blob);
        setAddress(made);
      },
      (reason: unknown) => {
        if (!controller.signal.aborted) setError(reason);
      },
    );
    return () => {
      controller.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [chart.id]);
  if (error) return <FailureNotice error={error} />;
  const [width, height] = [Number(chart["width"]) || 640, Number(chart["height"]) || 360];
  return address ? <img src={address} alt={chart.title} width={width} height={height} /> : <div class="skeleton" style={{ aspectRatio: `${width} / ${height}`, height: "auto" }} />;
}

function Legend({ series, kind, children }: { series: readonly Series[]; kind: "line" | "dot" | "box"; children?: ((name: string, rows: readonly number[]) => string) | null }) {
  if (series.length === 1 && !series[0]?.name && !children) return <ul class="legend" />;
  return (
    <ul class="legend">
      {series.slice(0, 20).map(({ name, rows }, n) => (
        <li key={name}>
          <svg class={`s${color(n)}`} width="18" height="10" aria-hidden="true">
            {kind === "line" ? <path d="M0 5h18" stroke="currentColor" stroke-width="2" stroke-dasharray={DASHES[n % DASHES.length]} /> : kind === "dot" ? <circle cx="9" cy="5" r="4" fill="currentColor" /> : <rect x="4" width="10" height="10" rx="2" fill="currentColor" />}
          </svg>
          {children ? children(name, rows) : name}
        </li>
      ))}
      {series.length > 20 ? <li>and {series.length - 20} more</li> : null}
    </ul>
  );
}

function DataTable({ chart }: { chart: Chart }) {
  const [isOpen, setOpen] = useState(false);
  const names = Object.keys(chart.data).filter((name) => Array.isArray(chart.data[name]));
  const rows = Math.max(0, ...names.map((name) => chart.data[name]?.length ?? 0));
  return (
    <details onToggle={(event) => setOpen((event.currentTarget as HTMLDetailsElement).open)}>
      <summary>Values{rows > MOST_TABLE_ROWS ? `, first ${MOST_TABLE_ROWS} of ${counted(rows, "row")}` : ""}</summary>
      {isOpen ? (
        <Scrolling label={`Values of ${chart.title}`}>
          <table class="table dense">
            <thead><tr>{names.map((name) => <th key={name} scope="col">{name}</th>)}</tr></thead>
            <tbody>
              {Array.from({ length: Math.min(rows, MOST_TABLE_ROWS) }, (_, row) => (
                <tr key={row}>{names.map((name) => <td key={name}>{measure(chart.data[name]?.[row])}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </Scrolling>
      ) : null}
    </details>
  );
}

/** A box that scrolls sideways, also with the keyboard. */
export function Scrolling({ label, children }: { label: string; children: ComponentChildren }) {
  return <div class="table-box" tabIndex={0} role="region" aria-label={label}>{children}</div>;
}

function SaveButton({ chart, sessionId }: { chart: Chart; sessionId: string }) {
  const [error, setError] = useState<unknown>(null);
  const save = async (): Promise<void> => {
    setError(null);
    try {
      const picture = await service().results.picture(sessionId, chart.name, { format: "png", theme: isDark() ? "dark" : "light", width: 1000 });
      saveBlob(picture, `${chart.name}.png`);
    } catch (reason) {
      setError(reason);
    }
  };
  return (
    <>
      <button type="button" class="button quiet small" onClick={() => void save()} aria-label={`Save “${chart.title}” as PNG`}>PNG</button>
      {error ? <FailureNotice error={error} /> : null}
    </>
  );
}

export function saveBlob(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
