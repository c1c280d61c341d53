import offers from "./offers.json";

/**
 * What the reference trainer can do, with words for people. The service's own list is TRAINABLE_MODELS in
 * shared/records/training.py; tests/architecture holds the two together.
 */
export interface Task {
  name: string;
  title: string;
  models: readonly string[];
}

export const TASKS: readonly Task[] = Object.entries(offers.tasks).map(([name, task]) => ({ name, ...task }));
export const MODEL_HINTS: Readonly<Record<string, string>> = offers.models;
export const TIME_SERIES = "time_series";
