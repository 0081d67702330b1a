// Command lines that publish to a channel from other programs; shown to be copied.

export interface Recipe {
  readonly name: string;
  readonly note: string;
  readonly text: string;
}

/** Quoted for a POSIX shell: a channel name is harmless, a token or a host typed by somebody need not be. */
export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_./:=?&%@-]+$/.test(text) && !/[?&]/.test(text)
    ? text
    : `'${text.replaceAll("'", "'\\''")}'`;
}

export function whipUrl(base: string, channel: string): string {
  return new URL(`/whip/${encodeURIComponent(channel)}`, base).href;
}

/** Of `rtmp_ingest.listen`, unless somebody has changed it. */
const RTMP_PORT = 1936;

function rtmpUrl(base: string, channel: string): string {
  return `rtmp://${new URL(base).hostname}:${RTMP_PORT}/live/${encodeURIComponent(channel)}`;
}

export function recipes(base: string, channel: string, needsToken: boolean): Recipe[] {
  const url = whipUrl(base, channel);
  const ffmpegToken = needsToken ? " -authorization TOKEN" : "";
  const gstToken = needsToken ? " auth-token=TOKEN" : "";
  const ownToken = needsToken ? " --token TOKEN" : "";
  return [
    {
      name: "Demo host",
      note: "A moving picture with music, made by the server's own program.",
      text: `anchornet publish test --whip ${shellQuote(url)}${ownToken}`,
    },
    {
      name: "OBS Studio",
      note: needsToken
        ? "Settings → Stream → Service “WHIP”. Paste this as the server, and your token as the bearer token."
        : "Settings → Stream → Service “WHIP”. Paste this as the server; the bearer token stays empty.",
      text: url,
    },
    {
      name: "RTMP: OBS and others",
      note: `Where no WHIP is to be had. Server: everything up to “/live”; stream key: the rest. ${RTMP_PORT} is the usual port (rtmp_ingest.listen).`,
      text: `${rtmpUrl(base, channel)}${needsToken ? "?token=TOKEN" : ""}`,
    },
    {
      name: "ffmpeg 8 or newer",
      note: "Any file or device; the picture needs a keyframe at least every two seconds.",
      text:
        "ffmpeg -re -stream_loop -1 -i input.mp4 -c:v libx264 -profile:v baseline -preset veryfast " +
        "-tune zerolatency -g 60 -b:v 2500k -pix_fmt yuv420p -c:a libopus -ar 48000 -ac 2 -b:a 128k " +
        `-f whip${ffmpegToken} ${shellQuote(url)}`,
    },
    {
      name: "GStreamer",
      note: "With the whipsink element of gst-plugins-rs.",
      text:
        `gst-launch-1.0 whipsink name=out whip-endpoint=${shellQuote(url)}${gstToken} ` +
        "videotestsrc is-live=true ! video/x-raw,width=1280,height=720,framerate=30/1 ! " +
        "x264enc tune=zerolatency speed-preset=veryfast bitrate=2500 key-int-max=60 ! " +
        "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 ! " +
        "application/x-rtp,media=video,encoding-name=H264,payload=96 ! out. " +
        "audiotestsrc is-live=true wave=ticks ! audioconvert ! opusenc ! rtpopuspay ! " +
        "application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! out.",
    },
  ];
}
