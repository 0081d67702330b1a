// The JSON of the HTTP API, as `signaling/src/types` defines it and /api/v1/openapi.json describes it. One file, so
// that a change of the contract is one change here. Times are RFC 3339 text in UTC.

export type ChannelState = "idle" | "live" | "away";
export type Mode = "solo" | "collab";
export type Role = "host" | "guest";

export interface Page<T> {
  readonly items: readonly T[];
  readonly next?: string;
}

/** Absolute URLs, or paths when the node that answers also serves viewers. */
export interface Playback {
  readonly flv: string;
  readonly ws_flv: string;
  readonly hls: string;
}

export interface Viewers {
  readonly total: number;
  readonly flv: number;
  readonly ws_flv: number;
  readonly hls: number;
  readonly rtmp: number;
  readonly whep: number;
}

export interface Channel {
  readonly id: string;
  readonly title: string;
  readonly mode: Mode;
  /** The layout of the mix, also while it is not shown. */
  readonly layout: Layout;
  /** The slate, and the picture behind the tiles. */
  readonly slate?: Slate;
  /** Who is in the mix, in the order of the tiles; empty: everybody on program, the host first, then as they came. */
  readonly order: readonly string[];
  readonly state: ChannelState;
  readonly node: string;
  readonly created_at: string;
  readonly live_since?: string;
  readonly host?: string;
  /** Channels whose hosts are guests here; absent: none. */
  readonly links?: readonly string[];
  /** The channel in whose show this one's host is a guest. */
  readonly show?: string;
  readonly participants: number;
  readonly destinations: number;
  readonly host_adaptation?: HostAdaptation;
  readonly viewers: Viewers;
  readonly playback: Playback;
}

export type LayoutName = "grid" | "side-by-side" | "speaker" | "pip" | "custom";

/** A picture that was uploaded. */
export interface Still {
  readonly media_type: string;
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
}

/** What was chosen for a channel; what is absent is as the node is configured. */
export interface Slate {
  readonly text?: string;
  readonly picture?: Still;
  readonly background?: Still;
}

export type PicturePlace = "slate" | "background";

/** A channel whose host is a guest of another. */
export interface Link {
  readonly channel: string;
  readonly state: "waiting" | "live";
}

/** One participant's place in the picture; fractions of its width and height. */
export interface Tile {
  readonly participant: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Layout {
  readonly name: LayoutName;
  /** Back to front; only for `custom`. */
  readonly tiles: readonly Tile[];
  readonly background?: string;
}

export interface ModeRequest {
  readonly mode: Mode;
  readonly layout?: LayoutName;
  readonly participants?: readonly string[];
}

export interface Cut {
  readonly video_dts_ms: number;
  readonly audio_dts_ms: number;
  /** From the request to the cut. */
  readonly waited_ms: number;
}

export interface Splice {
  readonly method: string;
  readonly fade_ms: number;
  readonly gap_samples: number;
  readonly overlap_samples: number;
}

export interface SwitchReport {
  readonly mode: Mode;
  readonly changed: boolean;
  readonly requested_at: string;
  readonly cut: Cut | null;
  readonly splice: Splice | null;
}

export interface SwitchRecord {
  readonly number: number;
  readonly mode: Mode;
  readonly requested_at: string;
  readonly cut: Cut | null;
  readonly splice: Splice | null;
}

export interface InviteRequest {
  readonly role: Role;
  readonly participant?: string;
  readonly expires_in_s?: number;
}

export interface Invite {
  readonly url: string;
  readonly token?: string | null;
  readonly expires_at?: string | null;
}

export interface AudioLevel {
  readonly rms_dbfs: number;
  readonly peak_dbfs: number;
}

export interface ChannelCreate {
  readonly id: string;
  readonly title?: string;
  readonly destinations?: readonly DestinationSpec[];
}

export interface DestinationSpec {
  readonly url: string;
  readonly name: string;
}

export type DestinationState = "idle" | "connecting" | "live" | "backoff" | "refused" | "stopped";

export interface Destination {
  readonly name: string;
  /** Without credentials: the stream key is shown as `***`. */
  readonly url: string;
  readonly state: DestinationState;
  readonly attempts: number;
  readonly last_error: string | null;
  readonly next_attempt_at: string | null;
  readonly connected_at: string | null;
  readonly bytes_sent: number;
  readonly dropped_units: number;
}

export type ParticipantState = "connecting" | "live" | "away";

/** What broadcasters give up last when their connection gets slow. */
export type HostAdaptation = "keep-resolution" | "keep-framerate" | "balanced";

export interface IngestStats {
  readonly video_bitrate_bps: number;
  readonly audio_bitrate_bps: number;
  readonly fps: number;
  readonly video_codec: string;
  readonly audio_codec: string;
  readonly width: number;
  readonly height: number;
  readonly packets_received: number;
  readonly packets_lost: number;
  readonly packets_repaired: number;
  /** Before repair, 0 to 1. */
  readonly loss_ratio: number;
  readonly jitter_ms: number;
  readonly rtt_ms: number;
  readonly nacks_sent: number;
  readonly plis_sent: number;
  readonly keyframes: number;
  readonly dropped_units: number;
  readonly freezes?: number;
  readonly frozen_ms?: number;
  /** The sizes of a simulcast; empty when there is one. */
  readonly layers?: readonly LayerStats[];
  readonly qoe?: Qoe;
}

export interface LayerStats {
  readonly rid: string;
  readonly active: boolean;
  readonly on_program: boolean;
  readonly width: number;
  readonly height: number;
  readonly bitrate_bps: number;
  readonly fps: number;
}

export interface Qoe {
  readonly grade: "unknown" | "good" | "fair" | "poor";
  /** 1 to 5; 0 while nothing is known. */
  readonly score: number;
  /** `freezes`, `loss`, `jitter`, `round_trip`, `frame_rate`, what costs most first. */
  readonly reasons: readonly string[];
}

export interface Participant {
  readonly id: string;
  readonly role: Role;
  readonly state: ParticipantState;
  readonly protocol: string;
  readonly joined_at: string;
  readonly muted: boolean;
  readonly volume: number;
  /** To be seen and heard when the channel is in collab. */
  readonly on_program: boolean;
  /** Seen or heard in the program at this moment. */
  readonly on_air: boolean;
  /** Before the volume. */
  readonly level?: AudioLevel;
  readonly video?: { readonly codec: string; readonly width: number; readonly height: number };
  readonly audio?: {
    readonly codec: string;
    readonly sample_rate_hz: number;
    readonly channels: number;
  };
  readonly ingest?: IngestStats;
}

export interface ParticipantPatch {
  readonly muted?: boolean;
  readonly volume?: number;
  readonly on_program?: boolean;
}

export interface ProgramStats {
  readonly source: "none" | "host" | "mix" | "slate";
  readonly fps: number;
  readonly video_bitrate_bps: number;
  readonly audio_bitrate_bps: number;
  readonly width: number;
  readonly height: number;
  readonly audio_level: AudioLevel;
  readonly audio_passes: boolean;
  readonly splices: number;
  readonly forced_splices: number;
  readonly silence_samples: number;
  readonly concealed_samples: number;
  readonly video_units: number;
  readonly audio_units: number;
  readonly keyframes: number;
  readonly dropped_units: number;
  readonly video_dts_ms: number;
  readonly audio_dts_ms: number;
  readonly program_delay_ms: number;
  readonly switches: number;
}

export interface ParticipantStats {
  readonly id: string;
  readonly role: Role;
  readonly state: ParticipantState;
  readonly level: AudioLevel;
  readonly ingest: IngestStats;
}

export interface ChannelStats {
  readonly channel: string;
  readonly at: string;
  readonly uptime_ms: number;
  readonly mode: Mode;
  readonly state: ChannelState;
  readonly program: ProgramStats;
  readonly participants: readonly ParticipantStats[];
  readonly destinations: readonly {
    readonly name: string;
    readonly state: DestinationState;
    readonly bitrate_bps: number;
    readonly bytes_sent: number;
    readonly dropped_units: number;
  }[];
  readonly viewers: Viewers;
}

export interface Node {
  readonly id: string;
  readonly url: string;
  readonly roles: readonly ("anchor" | "origin")[];
  readonly version: string;
  readonly started_at: string;
  readonly seen_at: string;
  readonly channels: number;
  readonly sessions: number;
}

export type RelayState = "ok" | "full" | "leaving" | "blocked";

export interface Relay {
  readonly id: string;
  readonly address: string;
  readonly region: string;
  /** 0 to 1. */
  readonly load: number;
  readonly sessions: number;
  readonly used_kbps: number;
  /** 0: unknown. */
  readonly capacity_kbps: number;
  /** Bytes that it sends for one that it takes from the origin. */
  readonly expansion: number;
  readonly state: RelayState;
  readonly silent_ms: number;
  readonly serves: readonly { readonly stream: string; readonly substreams: readonly number[] }[];
}

export interface Relays {
  readonly scheduled: boolean;
  readonly known: number;
  readonly relays: readonly Relay[];
}

export interface Readiness {
  readonly ready: boolean;
  readonly status: "ready" | "degraded" | "not_ready";
  readonly checks: readonly {
    readonly name: string;
    readonly status: "ok" | "degraded" | "failed";
    readonly detail: string;
  }[];
}

interface EventBase {
  readonly id: number;
  readonly at: string;
  readonly channel?: string;
}

/** What `GET /api/v1/events` sends; kinds that are not known here are ignored. */
export type ApiEvent = EventBase &
  (
    | { readonly type: "channel.created" | "channel.updated"; readonly data: Channel }
    | { readonly type: "channel.deleted" | "resync"; readonly data: Record<string, never> }
    | { readonly type: "participant.joined" | "participant.updated"; readonly data: Participant }
    | {
        readonly type: "participant.left";
        readonly data: { readonly id: string; readonly reason: string };
      }
    | { readonly type: "destination.updated"; readonly data: Destination }
    | { readonly type: "mode.switched"; readonly data: SwitchReport }
    | { readonly type: "layout.changed"; readonly data: Layout }
    | { readonly type: "readiness.changed"; readonly data: Readiness }
  );
