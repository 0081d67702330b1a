// The access token. Kept for the life of the tab only, and taken out of the address bar at once: an address is
// copied, logged and shown on screens that are being shared.

const KEY = "anchornet.token";

/** Some browsers forbid storage altogether (blocked cookies); the token then lives as long as the page. */
let fallback: string | undefined;

function read(): string | undefined {
  try {
    return sessionStorage.getItem(KEY) ?? fallback;
  } catch {
    return fallback;
  }
}

export function token(): string | undefined {
  return read();
}

export function setToken(value: string | undefined): void {
  const text = value?.trim().replace(/^Bearer\s+/i, "");
  fallback = text || undefined;
  try {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Kept in `fallback`.
  }
}

/**
 * The token in an address, and the address without it. In a link to a person it stands behind the `#`, which is not sent
 * to any server; scripts may put it in the query.
 */
export function takeToken(address: string): { token: string; rest: string } | undefined {
  const url = new URL(address);
  const fragment = /^#(?:.*&)?token=([^&]*)/.exec(url.hash)?.[1];
  const given = fragment === undefined ? url.searchParams.get("token") : decode(fragment);
  if (given === null) return undefined;
  url.searchParams.delete("token");
  if (fragment !== undefined) {
    const kept = url.hash
      .slice(1)
      .split("&")
      .filter((part) => !part.startsWith("token="));
    url.hash = kept.join("&");
  }
  return { token: given, rest: url.href };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Moves the token from the address bar to where tokens are kept. Call once, before the first request. */
export function adoptTokenFromAddress(): void {
  const taken = takeToken(location.href);
  if (!taken) return;
  setToken(taken.token);
  history.replaceState(history.state, "", taken.rest);
}
