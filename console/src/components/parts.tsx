import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { failureOf } from "../failures";
import { Icon, type IconName } from "./icons";

/** Says what is wrong, and offers to try again where that can help. */
export function FailureNotice({ error, retry }: { error: unknown; retry?: () => void }) {
  const { title, advice, mayRetry } = failureOf(error);
  return (
    <Notice tone="bad" title={title} act={mayRetry && retry ? <button type="button" class="button small" onClick={retry}>Try again</button> : null}>
      {advice}
    </Notice>
  );
}

export type Tone = "bad" | "warn" | "good" | "plain";
const ICONS: Record<Tone, IconName> = { bad: "bad", warn: "warn", good: "good", plain: "file" };

export function Notice({ tone = "plain", title, act, children }: { tone?: Tone; title: string; act?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="notice" data-tone={tone} role={tone === "bad" ? "alert" : undefined}>
      <Icon name={ICONS[tone]} />
      <div class="what">
        <strong>{title}</strong>
        {children ? <p>{children}</p> : null}
      </div>
      {act ? <div class="act">{act}</div> : null}
    </div>
  );
}

/**
 * What stands where nothing is.
 *
 * @param isAll - it is all that the page says, so that its title is the page's
 */
export function Empty({ title, children, act, isAll = false }: { title: string; children: ComponentChildren; act?: ComponentChildren; isAll?: boolean }) {
  return (
    <div class="empty">
      {isAll ? <h1>{title}</h1> : <h2>{title}</h2>}
      <p>{children}</p>
      {act}
    </div>
  );
}

/** Grey bars where text will stand. */
export function Skeleton({ width = "100%", height }: { width?: string; height?: string }) {
  return <span class="skeleton" style={{ width, ...(height ? { height } : {}) }} />;
}

/** Bars for a whole list, with one sentence for those who listen. */
export function SkeletonRows({ rows, label }: { rows: number; label: string }) {
  return (
    <div class="panel" role="status">
      <span class="visually-hidden">{label}</span>
      {Array.from({ length: rows }, (_, row) => (
        <div class="file" key={row} aria-hidden="true">
          <Skeleton width={`${[38, 30, 44, 26, 35][row % 5]}%`} />
          <Skeleton width="72px" />
        </div>
      ))}
    </div>
  );
}

/**
 * How far something is.
 *
 * @param share - 0 to 1; null is not known
 * @param ahead - further than that, but not certain yet
 */
export function Progress({ share, ahead = 0, tone, label }: { share: number | null; ahead?: number; tone?: "bad" | "still"; label: string }) {
  const known = share === null ? {} : { "aria-valuenow": Math.round(share * 100) };
  return (
    <div class="progress" role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} {...known} data-tone={share === null ? "unknown" : tone}>
      {ahead > 0 ? <i class="ahead" style={{ transform: `scaleX(${ahead})` }} /> : null}
      {share === null ? null : <i style={{ transform: `scaleX(${share})` }} />}
    </div>
  );
}

export function State({ tone, children }: { tone?: "busy" | "good" | "bad" | "warn" | undefined; children: ComponentChildren }) {
  return <span class="state" data-tone={tone}>{children}</span>;
}

/**
 * A question over the page; Escape and the buttons close it.
 *
 * @param onClose - without it, the question stays until it is answered
 */
export function Dialog({ title, children, onClose }: { title: string; children: ComponentChildren; onClose?: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const shown = dialog.current;
    const before = document.activeElement;
    shown?.showModal();
    return () => {
      shown?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      onCancel={(event) => {
        if (!onClose) event.preventDefault();
      }}
      onClose={() => {
        // Who presses Escape twice is obeyed by the browser, whatever the page says to it.
        if (onClose) onClose();
        else dialog.current?.showModal();
      }}
    >
      <div class="body">
        <h2 id={heading}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

const toasts = signal<{ id: number; text: string }[]>([]);
let nextToast = 1;

/** Say something in passing. */
export function say(text: string): void {
  const id = nextToast++;
  toasts.value = [...toasts.value, { id, text }];
  setTimeout(() => {
    toasts.value = toasts.value.filter((toast) => toast.id !== id);
  }, 5000);
}

export function Toasts() {
  return (
    <div class="toasts" role="status">
      {toasts.value.map(({ id, text }) => <div key={id}>{text}</div>)}
    </div>
  );
}
