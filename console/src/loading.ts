import { signal } from "@preact/signals";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { failureOf } from "./failures";

/** Until something of which nothing is known yet is asked for again. */
const AFTER_FAILURE_MS = 4000;
const holds = signal(0);
const underWay = new Set<AbortController>();

/** Do something while nothing is loaded: of what is being deleted, an answer that comes too late is an error. */
export async function withoutLoading(work: () => Promise<void>): Promise<void> {
  holds.value += 1;
  for (const controller of underWay) controller.abort();
  try {
    await work();
  } finally {
    holds.value -= 1;
  }
}

export interface Loaded<Value> {
  /** The newest value; stays while it is loaded again. */
  value: Value | undefined;
  error: unknown;
  reload: () => void;
}

/**
 * Load a value, and again whenever `keys` change; the answer to an old question is dropped.
 *
 * @param everyMs - load again that long after each answer while the page is seen, and after a failure that may pass;
 *   null for never
 */
export function useLoaded<Value>(
  load: (signal: AbortSignal) => Promise<Value>,
  keys: readonly unknown[],
  everyMs: ((value: Value | undefined) => number | null) | null = null,
): Loaded<Value> {
  const [state, setState] = useState<{ value: Value | undefined; error: unknown }>({ value: undefined, error: null });
  const [turn, setTurn] = useState(0);
  const lastKeys = useRef<string>("");
  const newest = useRef<Value | undefined>(undefined);
  const key = JSON.stringify(keys);
  const isHeld = holds.value > 0;

  useEffect(() => {
    if (isHeld) return;
    const controller = new AbortController();
    underWay.add(controller);
    let timer: ReturnType<typeof setTimeout> | undefined;
    if (lastKeys.current !== key) {
      newest.current = undefined;
      setState({ value: undefined, error: null });
    }
    lastKeys.current = key;
    const again = (value: Value | undefined): void => {
      const wait = (value === undefined ? everyMs && AFTER_FAILURE_MS : everyMs?.(value)) ?? null;
      if (wait === null || controller.signal.aborted) return;
      timer = setTimeout(() => (document.hidden ? again(value) : run()), wait);
    };
    const run = (): void => {
      load(controller.signal).then(
        (value) => {
          if (controller.signal.aborted) return;
          newest.current = value;
          setState({ value, error: null });
          again(value);
        },
        (error: unknown) => {
          if (controller.signal.aborted) return;
          setState((before) => ({ value: before.value, error }));
          if (failureOf(error).mayRetry) again(newest.current);
        },
      );
    };
    run();
    return () => {
      controller.abort();
      underWay.delete(controller);
      clearTimeout(timer);
    };
    // The loader is made anew with each drawing; `keys` say when it means something else.
  }, [key, turn, isHeld]);

  const reload = useCallback(() => setTurn((n) => n + 1), []);
  return { ...state, reload };
}
