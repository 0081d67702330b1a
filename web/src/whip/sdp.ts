// What the WHIP client reads from and changes in SDP. Text in, text out; nothing here touches a connection.
//
// Two descriptions are adjusted on the wire only. The offer that is posted says that stereo will be sent
// (RFC 7587 section 6.1), and the answer that is applied carries the bitrates the user chose: an encoder is
// configured by what the *receiver's* description asks for.

export interface AudioWishes {
  readonly stereo: boolean;
  readonly maxAverageBitrate: number;
}

export interface VideoWishes {
  /** Where Chromium's bandwidth estimate starts; without it 720p ramps up from 320x180 over many seconds. */
  readonly startKbps?: number;
}

/** Splits into the session part and one entry per m-line, each with its line ends normalised away. */
function sections(sdp: string): string[][] {
  const result: string[][] = [[]];
  for (const line of sdp.split(/\r?\n/)) {
    if (line === "") continue;
    if (line.startsWith("m=")) result.push([]);
    result.at(-1)?.push(line);
  }
  return result;
}

function join(parts: string[][]): string {
  return parts.map((lines) => lines.map((line) => `${line}\r\n`).join("")).join("");
}

/** Payload types of `codec` (as in rtpmap, case-insensitive) in one media section. */
function payloadTypes(lines: readonly string[], codec: string): string[] {
  const wanted = codec.toLowerCase();
  return lines.flatMap((line) => {
    const match = /^a=rtpmap:(\d+) ([^/]+)\//.exec(line);
    return match?.[1] && match[2]?.toLowerCase() === wanted ? [match[1]] : [];
  });
}

/** Adds or replaces `key=value` pairs of the fmtp line of `payloadType`, which is created when missing. */
function setParameters(lines: string[], payloadType: string, wishes: Record<string, string>): void {
  const prefix = `a=fmtp:${payloadType} `;
  const at = lines.findIndex((line) => line.startsWith(prefix));
  const parameters = new Map<string, string | undefined>();
  if (at >= 0) {
    for (const pair of (lines[at] ?? "").slice(prefix.length).split(";")) {
      const [key, ...value] = pair.trim().split("=");
      if (key) parameters.set(key, value.length > 0 ? value.join("=") : undefined);
    }
  }
  for (const [key, value] of Object.entries(wishes)) parameters.set(key, value);
  const text = [...parameters].map(([k, v]) => (v === undefined ? k : `${k}=${v}`)).join(";");
  if (at >= 0) {
    lines[at] = prefix + text;
    return;
  }
  const map = lines.findIndex((line) => line.startsWith(`a=rtpmap:${payloadType} `));
  lines.splice(map + 1, 0, prefix + text);
}

function forCodec(
  sdp: string,
  kind: string,
  codec: string,
  wishes: Record<string, string>,
): string {
  if (Object.keys(wishes).length === 0) return sdp;
  const parts = sections(sdp);
  for (const lines of parts) {
    if (!lines[0]?.startsWith(`m=${kind} `)) continue;
    for (const payloadType of payloadTypes(lines, codec)) setParameters(lines, payloadType, wishes);
  }
  return join(parts);
}

/** A receiver's own offer, wishing for both channels. */
export function wishForStereo(offer: string): string {
  return forCodec(offer, "audio", "opus", { stereo: "1" });
}

/** The offer as it is posted: announces what will be sent. */
export function announceAudio(offer: string, wishes: AudioWishes): string {
  if (!wishes.stereo) return offer;
  return forCodec(offer, "audio", "opus", { stereo: "1", "sprop-stereo": "1" });
}

/** The answer as it is applied: asks our own encoders for what the user chose. */
export function configureEncoders(answer: string, audio: AudioWishes, video: VideoWishes): string {
  const withAudio = forCodec(answer, "audio", "opus", {
    ...(audio.stereo ? { stereo: "1", "sprop-stereo": "1" } : {}),
    maxaveragebitrate: String(audio.maxAverageBitrate),
    useinbandfec: "1",
  });
  if (video.startKbps === undefined) return withAudio;
  return forCodec(withAudio, "video", "H264", {
    "x-google-start-bitrate": String(video.startKbps),
  });
}

/** Whether the answer accepts any stream of `kind`: a rejected m-line has port 0 (RFC 3264 section 6). */
export function accepts(answer: string, kind: "audio" | "video"): boolean {
  return sections(answer).some((lines) => {
    const match = /^m=(\w+) (\d+) /.exec(lines[0] ?? "");
    return match?.[1] === kind && match[2] !== "0";
  });
}

export interface IceCredentials {
  readonly ufrag: string;
  readonly pwd: string;
}

export function iceCredentials(sdp: string): IceCredentials | undefined {
  const ufrag = /^a=ice-ufrag:(\S+)\s*$/m.exec(sdp)?.[1];
  const pwd = /^a=ice-pwd:(\S+)\s*$/m.exec(sdp)?.[1];
  return ufrag && pwd ? { ufrag, pwd } : undefined;
}

/**
 * The body of a PATCH that restarts ICE (RFC 9725 section 4.3.3): credentials, then the first m-line of the bundle
 * with its mid and every candidate gathered so far.
 */
export function restartFragment(offer: string): string | undefined {
  const credentials = iceCredentials(offer);
  const media = sections(offer)
    .slice(1)
    .find((lines) => lines.some((line) => line.startsWith("a=mid:")));
  const head = media?.[0];
  const mid = media?.find((line) => line.startsWith("a=mid:"));
  if (!credentials || !media || !head || !mid) return undefined;
  const candidates = media.filter(
    (line) => line.startsWith("a=candidate:") || line === "a=end-of-candidates",
  );
  return [
    `a=ice-ufrag:${credentials.ufrag}`,
    `a=ice-pwd:${credentials.pwd}`,
    head,
    mid,
    ...candidates,
    "",
  ].join("\r\n");
}

/** The remote description after an ICE restart: the old answer with the credentials and candidates of `fragment`. */
export function applyFragment(answer: string, fragment: string): string | undefined {
  const credentials = iceCredentials(fragment);
  if (!credentials) return undefined;
  const candidates = fragment.split(/\r?\n/).filter((line) => line.startsWith("a=candidate:"));
  const parts = sections(answer);
  const last = /^a=(candidate:|end-of-candidates)/;
  let placed = false;
  const result = parts.map((lines, index) => {
    const kept = lines
      .filter((line) => !last.test(line))
      .map((line) => {
        if (line.startsWith("a=ice-ufrag:")) return `a=ice-ufrag:${credentials.ufrag}`;
        if (line.startsWith("a=ice-pwd:")) return `a=ice-pwd:${credentials.pwd}`;
        return line;
      });
    if (index === 0 || placed) return kept;
    placed = true;
    return [...kept, ...candidates];
  });
  return join(result);
}

type Codec = Pick<RTCRtpCodec, "mimeType" | "clockRate"> & { sdpFmtpLine?: string };

/** Lower is preferred. The profiles are those of RFC 6184 that every decoder has: baseline, then main. */
function rank(codec: Codec): number {
  const line = codec.sdpFmtpLine ?? "";
  const mode = /packetization-mode=1/.test(line) ? 0 : 10;
  if (/profile-level-id=42e0/i.test(line)) return mode;
  if (/profile-level-id=4200/i.test(line)) return mode + 1;
  if (/profile-level-id=4d00/i.test(line)) return mode + 2;
  return mode + 5;
}

/** H.264 in order of preference, with its retransmission codec; empty when the browser has no H.264. */
export function videoPreferences<T extends Codec>(codecs: readonly T[]): T[] {
  const h264 = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/h264");
  if (h264.length === 0) return [];
  const rtx = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/rtx");
  return [...h264.sort((a, b) => rank(a) - rank(b)), ...rtx];
}

/** Opus only. */
export function audioPreferences<T extends Codec>(codecs: readonly T[]): T[] {
  return codecs.filter((codec) => codec.mimeType.toLowerCase() === "audio/opus");
}
