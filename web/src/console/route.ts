// Where in the console one is, kept after the # of the address: back and forward work, and a reload stays.

import { signal } from "@preact/signals";

export type Route =
  | { readonly page: "list" }
  | { readonly page: "relays" }
  | { readonly page: "channel"; readonly id: string }
  | { readonly page: "new"; readonly id: string };

export function parseRoute(hash: string): Route {
  if (hash === RELAYS_HREF) return { page: "relays" };
  const [, page, raw] = /^#\/(channels|new)(?:\/([^/]*))?$/.exec(hash) ?? [];
  let id = "";
  try {
    id = decodeURIComponent(raw ?? "");
  } catch {
    return { page: "list" };
  }
  if (page === "channels" && id !== "") return { page: "channel", id };
  if (page === "new") return { page: "new", id };
  return { page: "list" };
}

export const channelHref = (id: string) => `#/channels/${encodeURIComponent(id)}`;
export const newHref = (id = "") => (id ? `#/new/${encodeURIComponent(id)}` : "#/new");
export const LIST_HREF = "#/";
export const RELAYS_HREF = "#/relays";

export const route = signal<Route>({ page: "list" });

export function followRoute(): void {
  const read = () => {
    route.value = parseRoute(location.hash);
  };
  window.addEventListener("hashchange", read);
  read();
}

export function go(href: string): void {
  location.hash = href;
}
