// The REST API: one function per thing the pages do. Errors are `ApiError` or `NetworkError`, nothing else.

import { parseRetryAfter } from "../lib/backoff";
import { ApiError, NetworkError, parseProblem } from "../lib/problem";
import { token } from "./token";
import type {
  Channel,
  ChannelCreate,
  ChannelStats,
  Destination,
  DestinationSpec,
  Invite,
  InviteRequest,
  Layout,
  Link,
  ModeRequest,
  Node,
  Page,
  Participant,
  ParticipantPatch,
  PicturePlace,
  Readiness,
  Relays,
  Slate,
  SwitchRecord,
  SwitchReport,
} from "./types";

/** A list that never ends would be a fault of the server; the pages stop reading here. */
const MAX_PAGES = 20;

const segment = encodeURIComponent;

export function authorization(): Record<string, string> {
  const value = token();
  return value ? { Authorization: `Bearer ${value}` } : {};
}

async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      ...init,
      cache: "no-store",
      headers: { Accept: "application/json", ...authorization(), ...init.headers },
    });
    // The owner of the channel may be another node; browsers drop the token on the way there.
    if (response.redirected && response.status === 401 && token()) {
      response = await fetch(response.url, {
        ...init,
        headers: { Accept: "application/json", ...authorization(), ...init.headers },
      });
    }
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new NetworkError();
  }
  return response;
}

async function refuse(response: Response): Promise<never> {
  const body = await response.text().catch(() => "");
  const problem = parseProblem(body, response.headers.get("Content-Type"), response.status);
  const retryAfter = parseRetryAfter(response.headers.get("Retry-After"), Date.now());
  throw new ApiError(response.status, problem, retryAfter);
}

async function read<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, signal ? { signal } : {});
  if (!response.ok) await refuse(response);
  return (await response.json()) as T;
}

async function write<T>(method: string, path: string, body?: unknown): Promise<T | undefined> {
  const init: RequestInit =
    body === undefined
      ? { method }
      : { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await send(path, init);
  if (!response.ok) await refuse(response);
  if (response.status === 204) return undefined;
  return (await response.json().catch(() => undefined)) as T | undefined;
}

async function list<T>(path: string, signal?: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  let after: string | undefined;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = after === undefined ? "" : `?after=${segment(after)}`;
    const part = await read<Page<T>>(`${path}${query}`, signal);
    items.push(...part.items);
    if (part.next === undefined) break;
    after = part.next;
  }
  return items;
}

const channelPath = (id: string) => `/api/v1/channels/${segment(id)}`;

export const api = {
  channels: (signal?: AbortSignal) => list<Channel>("/api/v1/channels", signal),
  channel: (id: string, signal?: AbortSignal) => read<Channel>(channelPath(id), signal),
  createChannel: (body: ChannelCreate) => write<Channel>("POST", "/api/v1/channels", body),
  renameChannel: (id: string, title: string) => write<Channel>("PATCH", channelPath(id), { title }),
  deleteChannel: (id: string) => write<void>("DELETE", channelPath(id)),
  stats: (id: string, signal?: AbortSignal) =>
    read<ChannelStats>(`${channelPath(id)}/stats`, signal),
  participants: (id: string, signal?: AbortSignal) =>
    list<Participant>(`${channelPath(id)}/participants`, signal),
  removeParticipant: (id: string, participant: string) =>
    write<void>("DELETE", `${channelPath(id)}/participants/${segment(participant)}`),
  changeParticipant: (id: string, participant: string, patch: ParticipantPatch) =>
    write<Participant>("PATCH", `${channelPath(id)}/participants/${segment(participant)}`, patch),
  /** Answers when viewers get the new mode. */
  setMode: (id: string, request: ModeRequest) =>
    write<SwitchReport>("PUT", `${channelPath(id)}/mode`, request),
  setLayout: (id: string, layout: Layout) =>
    write<Layout>("PUT", `${channelPath(id)}/layout`, layout),
  /** Null: as the node is configured. */
  setSlate: (id: string, text: string | null) =>
    write<Slate>("PUT", `${channelPath(id)}/slate`, { text }),
  picture: async (id: string, place: PicturePlace, signal?: AbortSignal): Promise<Blob> => {
    const response = await send(`${channelPath(id)}/pictures/${place}`, signal ? { signal } : {});
    if (!response.ok) await refuse(response);
    return response.blob();
  },
  setPicture: async (id: string, place: PicturePlace, file: File): Promise<void> => {
    const response = await send(`${channelPath(id)}/pictures/${place}`, {
      method: "PUT",
      body: file,
      headers: { "Content-Type": file.type },
    });
    if (!response.ok) await refuse(response);
  },
  removePicture: (id: string, place: PicturePlace) =>
    write<void>("DELETE", `${channelPath(id)}/pictures/${place}`),
  /** Oldest first. */
  switches: (id: string, signal?: AbortSignal) =>
    list<SwitchRecord>(`${channelPath(id)}/switches`, signal),
  invite: (id: string, request: InviteRequest) =>
    write<Invite>("POST", `${channelPath(id)}/invites`, request),
  /** Lets the host of another channel be a guest of this one. */
  link: (id: string, channel: string) =>
    write<Link>("POST", `${channelPath(id)}/links`, { channel }),
  unlink: (id: string, channel: string) =>
    write<void>("DELETE", `${channelPath(id)}/links/${segment(channel)}`),
  destinations: (id: string, signal?: AbortSignal) =>
    list<Destination>(`${channelPath(id)}/destinations`, signal),
  setDestinations: (id: string, all: readonly DestinationSpec[]) =>
    write<Page<Destination>>("PUT", `${channelPath(id)}/destinations`, all),
  nodes: (signal?: AbortSignal) => list<Node>("/api/v1/nodes", signal),
  relays: (signal?: AbortSignal) => read<Relays>("/api/v1/relays", signal),
  /** Answers also when the node is not ready: the body says why. */
  readiness: async (signal?: AbortSignal): Promise<Readiness> => {
    const response = await send("/readyz", signal ? { signal } : {});
    if (!response.ok && response.status !== 503) await refuse(response);
    const body: unknown = await response.json().catch(() => undefined);
    if (typeof body !== "object" || body === null || !("status" in body)) return refuse(response);
    return body as Readiness;
  },
};
