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

/** Moves `?token=` from the address bar to where tokens are kept. Call once, before the first request. */
export function adoptTokenFromAddress(): void {
  const url = new URL(location.href);
  const given = url.searchParams.get("token");
  if (given === null) return;
  setToken(given);
  url.searchParams.delete("token");
  history.replaceState(history.state, "", url);
}
