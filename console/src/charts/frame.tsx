import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { linear, type Scale, type Tick } from "./scale";

export interface Area {
  x: Scale;
  y: Scale;
  width: number;
  height: number;
}

export interface AxisSpec {
  domain: readonly [number, number];
  ticks: (most: number) => readonly Tick[];
  title?: string;
}

/** Width of an element [px], followed while it changes; 0 before the first measure. */
export function useWidth(): { ref: { current: HTMLDivElement | null }; width: number } {
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.round(entry?.contentRect.width ?? 0)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return { ref, width };
}

const TOP = 8;
const RIGHT = 12;
const LETTER = 6.2;
const LINE = 12;

/** Draws axes, and what stands between them. The height is given, so that nothing moves when the width is known. */
export function Frame({ label, height, x, y, children, over }: {
  label: string;
  height: number;
  x: AxisSpec;
  y: AxisSpec;
  children: (area: Area) => ComponentChildren;
  /** Told where the pointer is, between 0 and 1 of the width; null when it leaves. */
  over?: (share: number | null) => void;
}) {
  const { ref, width } = useWidth();
  return (
    <div ref={ref} class="plot" style={{ height: `${height}px` }}>
      {width > 0 ? <Drawing {...{ label, height, x, y, children, width }} {...(over ? { over } : {})} /> : null}
    </div>
  );
}

function Drawing({ label, height, width, x, y, children, over }: {
  label: string; height: number; width: number; x: AxisSpec; y: AxisSpec;
  children: (area: Area) => ComponentChildren; over?: (share: number | null) => void;
}) {
  const hasTitle = Boolean(x.title);
  const bottom = hasTitle ? 38 : 22;
  const top = y.title ? 24 : TOP;
  const innerHeight = Math.max(10, height - top - bottom);
  const down = linear(y.domain, [innerHeight, 0]);
  const yTicks = apart(y.ticks(Math.max(2, Math.floor(height / 48))), down);
  const left = Math.max(24, ...yTicks.map((tick) => tick.text.length * LETTER + 12));
  const innerWidth = Math.max(10, width - left - RIGHT);
  const area: Area = { x: linear(x.domain, [0, innerWidth]), y: down, width: innerWidth, height: innerHeight };
  const xTicks = roomy(x.ticks(Math.max(3, Math.floor(innerWidth / 56))), area.x, innerWidth);
  const move = over && ((event: PointerEvent): void => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    over(Math.min(1, Math.max(0, (event.clientX - box.left - left) / innerWidth)));
  });
  return (
    <svg
      width={width}
      height={height}
      role="img"
      aria-label={label}
      {...(move ? { onPointerMove: move, onPointerLeave: () => over?.(null) } : {})}
    >
      {y.title ? <text x={0} y={11}>{cut(y.title, width / LETTER)}</text> : null}
      <g transform={`translate(${left},${top})`}>
        {yTicks.map((tick) => (
          <g key={tick.value} transform={`translate(0,${Math.round(area.y(tick.value))})`}>
            <line class="grid-line" x2={innerWidth} />
            <text x={-8} dy="0.35em" text-anchor="end">{tick.text}</text>
          </g>
        ))}
        {xTicks.map((tick) => (
          <text key={tick.value} x={area.x(tick.value)} y={innerHeight + 16} text-anchor="middle">{tick.text}</text>
        ))}
        {x.title ? <text x={innerWidth / 2} y={innerHeight + 33} text-anchor="middle">{cut(x.title, innerWidth / LETTER)}</text> : null}
        {children(area)}
      </g>
    </svg>
  );
}

/** Leave out marks whose texts would stand in each other. */
function apart(ticks: readonly Tick[], y: Scale): Tick[] {
  let last = -Infinity;
  return ticks.filter(({ value }) => {
    if (Math.abs(y(value) - last) < LINE) return false;
    last = y(value);
    return true;
  });
}

/** Leave out marks whose texts would touch, or leave the picture. */
function roomy(ticks: readonly Tick[], x: Scale, width: number): Tick[] {
  const kept: Tick[] = [];
  let end = -Infinity;
  for (const tick of ticks) {
    const half = (tick.text.length * LETTER) / 2;
    const at = x(tick.value);
    if (at - half < end + 8 || at + half > width + RIGHT) continue;
    kept.push(tick);
    end = at + half;
  }
  return kept;
}

export function cut(text: string, characters: number): string {
  const most = Math.max(4, Math.floor(characters));
  const letters = Array.from(text);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}
