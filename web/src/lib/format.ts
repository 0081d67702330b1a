// Numbers for people. Every helper takes "unknown" (undefined) and shows it as a dash, so that the pages
// never show NaN or an invented zero.

export const DASH = "–";

type Maybe = number | null | undefined;

const known = (value: Maybe): value is number =>
  typeof value === "number" && Number.isFinite(value);

export function bitrate(bitsPerSecond: Maybe): string {
  if (!known(bitsPerSecond)) return DASH;
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(2)} Mb/s`;
  if (bitsPerSecond >= 1e3) return `${Math.round(bitsPerSecond / 1e3)} kb/s`;
  return `${Math.round(bitsPerSecond)} b/s`;
}

export function bytes(count: Maybe): string {
  if (!known(count)) return DASH;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** 3 725 000 → "1:02:05". */
export function duration(ms: Maybe): string {
  if (!known(ms)) return DASH;
  const total = Math.max(0, Math.floor(ms / 1000));
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  const seconds = total % 60;
  const two = (n: number) => String(n).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

export function seconds(value: Maybe, digits = 1): string {
  return known(value) ? `${value.toFixed(digits)} s` : DASH;
}

export function millis(value: Maybe): string {
  return known(value) ? `${Math.round(value)} ms` : DASH;
}

export function percent(fraction: Maybe, digits = 1): string {
  return known(fraction) ? `${(fraction * 100).toFixed(digits)} %` : DASH;
}

export function fps(value: Maybe): string {
  return known(value) ? `${value.toFixed(value >= 100 ? 0 : 1)} fps` : DASH;
}

export function size(width: Maybe, height: Maybe): string {
  return known(width) && known(height) && width > 0 ? `${width}×${height}` : DASH;
}

export function count(value: Maybe): string {
  return known(value) ? Math.round(value).toLocaleString("en") : DASH;
}

export function decibels(value: Maybe): string {
  if (!known(value)) return DASH;
  return value <= -90 ? "silent" : `${value.toFixed(1)} dBFS`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** A server's reason as a sentence: they begin in lower case and without a full stop. */
export function sentence(text: string): string {
  const end = /[.!?…]$/.test(text) ? "" : ".";
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}${end}`;
}
