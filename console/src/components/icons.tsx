/** Drawn on a grid of 16, with lines of 1.5. All are beside words or in buttons that have a name. */
const PATHS = {
  search: "M7 12.5a5.5 5.5 0 1 0 0-11 5.500 5.500 0 0 0 0 11Zm4-1.500 3.500 3.500",
  plus: "M8 3v10M3 8h10",
  up: "M8 11V3M4.500 6.500 8 3l3.500 3.500M3 13h10",
  down: "M8 3v8M4.500 7.500 8 11l3.500-3.500M3 13.500h10",
  pause: "M5.500 3.500v9M10.500 3.500v9",
  play: "M5 3.500v9l7-4.500Z",
  close: "m4 4 8 8M12 4l-8 8",
  retry: "M13 8a5 5 0 1 1-1.500-3.500L13 6M13 2.500V6H9.500",
  warn: "M8 2 14.500 13.500h-13ZM8 6.500v3M8 11.700v.1",
  bad: "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13ZM8 4.500v4M8 11.200v.1",
  good: "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13ZM5 8.200l2.200 2.200L11.200 6",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  moon: "M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7Z",
  system: "M2 3h12v8H2ZM6 14h4M8 11v3",
  trash: "M2.500 4.500h11M6 4.500v-2h4v2M4 4.500l.6 9h6.800l.6-9M6.700 7v4M9.300 7v4",
  out: "M6 2.500H3v11h3M7 8h7M11 5l3 3-3 3",
  file: "M3.500 1.500h6l3 3v10h-9ZM9.500 1.500v3h3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The roof of a train shed, seen from the platform. */
export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" aria-hidden="true">
      <path d="M3 19v-5a9 9 0 0 1 18 0v5M7.500 19v-4.500a4.500 4.500 0 0 1 9 0V19M12 19v-4" />
    </svg>
  );
}
