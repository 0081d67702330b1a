// From the browser's WebRTC statistics to the few figures a broadcaster needs. Pure: two reports in, figures out.

/** The fields that are read, whichever report they are in. */
export interface RawStat {
  readonly id: string;
  readonly type: string;
  readonly timestamp: number;
  readonly [key: string]: unknown;
}

export interface PublishStats {
  readonly rttMs?: number;
  /** Share of packets that the server missed before repair, 0 to 1. */
  readonly loss?: number;
  readonly videoBps?: number;
  readonly audioBps?: number;
  readonly availableBps?: number;
  readonly fps?: number;
  readonly width?: number;
  readonly height?: number;
  /** Why the encoder sends less than it was asked for: "none", "cpu", "bandwidth" or "other". */
  readonly limitation?: string;
  readonly encoder?: string;
  readonly codec?: string;
  readonly retransmitted?: number;
  readonly keyframes?: number;
  readonly framesEncoded?: number;
}

const number = (stat: RawStat | undefined, key: string): number | undefined => {
  const value = stat?.[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
};

const text = (stat: RawStat | undefined, key: string): string | undefined => {
  const value = stat?.[key];
  return typeof value === "string" && value !== "" ? value : undefined;
};

/** Per second, between two reports; undefined when a counter was reset or no time passed. */
export function rate(
  before: RawStat | undefined,
  after: RawStat | undefined,
  key: string,
): number | undefined {
  const from = number(before, key);
  const to = number(after, key);
  if (!before || !after || from === undefined || to === undefined || to < from) return undefined;
  const seconds = (after.timestamp - before.timestamp) / 1000;
  return seconds > 0 ? (to - from) / seconds : undefined;
}

const eight = (bytesPerS: number | undefined) =>
  bytesPerS === undefined ? undefined : bytesPerS * 8;

function drop<T extends Record<string, unknown>>(record: T): PublishStats {
  return Object.fromEntries(Object.entries(record).filter(([, v]) => v !== undefined));
}

export function publishStats(
  before: readonly RawStat[] | undefined,
  after: readonly RawStat[],
): PublishStats {
  const find = (stats: readonly RawStat[] | undefined, type: string, kind?: string) =>
    stats?.find((stat) => stat.type === type && (kind === undefined || stat.kind === kind));
  const video = find(after, "outbound-rtp", "video");
  const audio = find(after, "outbound-rtp", "audio");
  const remote = find(after, "remote-inbound-rtp", "video") ?? find(after, "remote-inbound-rtp");
  const transport = find(after, "transport");
  const selected = text(transport, "selectedCandidatePairId");
  const pair =
    after.find((stat) => stat.id === selected) ??
    after.find((stat) => stat.type === "candidate-pair" && stat.nominated === true);
  const codec = after.find((stat) => stat.id === video?.codecId);
  const rttS = number(pair, "currentRoundTripTime") ?? number(remote, "roundTripTime");
  return drop({
    rttMs: rttS === undefined ? undefined : rttS * 1000,
    loss: number(remote, "fractionLost"),
    videoBps: eight(rate(find(before, "outbound-rtp", "video"), video, "bytesSent")),
    audioBps: eight(rate(find(before, "outbound-rtp", "audio"), audio, "bytesSent")),
    availableBps: number(pair, "availableOutgoingBitrate"),
    fps: number(video, "framesPerSecond"),
    width: number(video, "frameWidth"),
    height: number(video, "frameHeight"),
    limitation: text(video, "qualityLimitationReason"),
    encoder: text(video, "encoderImplementation"),
    codec: text(codec, "mimeType"),
    retransmitted: number(video, "retransmittedPacketsSent"),
    keyframes: number(video, "keyFramesEncoded"),
    framesEncoded: number(video, "framesEncoded"),
  });
}

/** What the limitation means for the person who sees it. */
export function limitationText(reason: string | undefined): string {
  switch (reason) {
    case undefined:
      return "–";
    case "none":
      return "none";
    case "cpu":
      return "this device is too slow";
    case "bandwidth":
      return "upload too slow";
    default:
      return reason;
  }
}
