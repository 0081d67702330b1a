// Icons as inline drawings on a 24-unit grid: no font, no sprite to load, colour from the text around them.

const PATHS = {
  anchor: "M12 8v13M12 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM4 13c0 5 4 8 8 8s8-3 8-8M8.5 11h7",
  camera: "M3 7.5h11v9H3zM14 11l6-3v8l-6-3z",
  screen: "M3 5h18v11H3zM9 20h6M12 16v4",
  pattern: "M4 5h16v14H4zM8 5v9M12 5v9M16 5v9M4 14h16",
  play: "M8 5.5v13l10-6.5z",
  pause: "M8 5.5v13M16 5.5v13",
  sound: "M4 10v4h3.5l4.5 4V6L7.5 10zM15.5 9.5a4 4 0 0 1 0 5M18 7a8 8 0 0 1 0 10",
  muted: "M4 10v4h3.5l4.5 4V6L7.5 10zM16 10l5 5M21 10l-5 5",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  pip: "M3 5h18v14H3zM12 12h6v4h-6z",
  plus: "M12 5v14M5 12h14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  edit: "M5 19h3l11-11-3-3L5 16zM14 7l3 3",
  back: "M14 6l-6 6 6 6",
  close: "M6 6l12 12M18 6L6 18",
  live: "M12 13a1 1 0 1 0 0-2 1 1 0 0 0 0 2ZM8 8a5.5 5.5 0 0 0 0 8M16 8a5.5 5.5 0 0 1 0 8M5 5a10 10 0 0 0 0 14M19 5a10 10 0 0 1 0 14",
  mic: "M12 14a3 3 0 0 0 3-3V6a3 3 0 0 0-6 0v5a3 3 0 0 0 3 3ZM6 11a6 6 0 0 0 12 0M12 17v4",
  edge: "M5 6l8 6-8 6zM18 6v12",
  up: "M12 19V6M6 12l6-6 6 6",
  down: "M12 5v13M6 12l6 6 6-6",
  undo: "M9 14L4 9l5-5M4 9h9a6 6 0 0 1 0 12h-2",
  host: "M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4 21c0-4 3.5-7 8-7s8 3 8 7",
  guests:
    "M8 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2 20c0-3.5 2.5-6 6-6s6 2.5 6 6M16.5 11.5a3 3 0 1 0-1-5.8M17 14.2c3 .3 5 2.6 5 5.8",
  invite: "M10 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM3 20c0-4 3-6 7-6s7 2 7 6M19 8v6M16 11h6",
  keys: "M3 6h18v12H3zM7 10h.01M12 10h.01M17 10h.01M8 14h8",
  enter: "M10 5h9v14h-9M3 12h11M10 8l4 4-4 4",
  exit: "M14 5H5v14h9M10 12h11M17 8l4 4-4 4",
  ear: "M4 14v-2a8 8 0 0 1 16 0v2M4 14h3v6H5a1 1 0 0 1-1-1zM20 14h-3v6h2a1 1 0 0 0 1-1z",
  alert: "M12 4l9 16H3zM12 10v5M12 17.5v.5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg
      class="icon"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="2"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
