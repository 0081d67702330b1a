// Addresses: the channel a page is about, and turning the playback paths of the API into full URLs.

const CHANNEL = /^[A-Za-z0-9_-]{1,64}$/;

/** Whether `name` can name a channel. The server has the last word; this only avoids a useless request. */
export function isChannelName(name: string): boolean {
  return CHANNEL.test(name);
}

/** `/studio/main` → "main"; also `?channel=main`, for pages opened as plain files of a dev server. */
export function channelFromLocation(location: {
  pathname: string;
  search: string;
}): string | undefined {
  const match = /^\/(?:studio|watch)\/([^/]+)\/?$/.exec(location.pathname);
  const raw = match?.[1] ?? new URLSearchParams(location.search).get("channel") ?? undefined;
  if (raw === undefined) return undefined;
  try {
    const name = decodeURIComponent(raw);
    return name === "" ? undefined : name;
  } catch {
    return undefined;
  }
}

/** An absolute URL for `reference`, which may be a path of this server or an address of another one. */
export function absolute(reference: string, base: string): string {
  return new URL(reference, base).href;
}

/** The same for WebSocket addresses: http becomes ws, https becomes wss. */
export function absoluteSocket(reference: string, base: string): string {
  const url = new URL(reference, base);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  return url.href;
}

/** `url` with a viewing token added, for players that cannot send an Authorization header. */
export function withToken(url: string, token: string | undefined): string {
  if (!token) return url;
  const result = new URL(url);
  if (!result.searchParams.has("token")) result.searchParams.set("token", token);
  return result.href;
}
