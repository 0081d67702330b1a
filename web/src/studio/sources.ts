// Where picture and sound come from: camera and microphone, a shared screen, or the test pattern. One `Capture` is what
// the studio shows and publishes; whatever it opened, `stop` closes.

import { messageOf } from "../lib/problem";
import { type SoundSource, startSound } from "./music";
import { startPattern } from "./pattern-source";
import { contentHint, dimensions, type Settings } from "./settings";

export interface Capture {
  readonly video: MediaStreamTrack | undefined;
  readonly audio: MediaStreamTrack | undefined;
  /** Something that went wrong without making the capture useless. */
  readonly warning: string | undefined;
  stop(): void;
}

/** A refusal by the browser or its user, in words that say what to do about it. */
export class CaptureError extends Error {
  override readonly name = "CaptureError";
}

export function captureMessage(error: unknown, what: string): string {
  const name = error instanceof DOMException || error instanceof Error ? error.name : "";
  switch (name) {
    case "NotAllowedError":
      return `The browser was not allowed to use the ${what}. Allow it in the address bar's permissions and try again.`;
    case "NotFoundError":
      return `No ${what} was found. Plug one in, or choose the test picture.`;
    case "NotReadableError":
      return `The ${what} is in use by another program, or the system refuses access to it.`;
    case "OverconstrainedError":
      return `The ${what} that was chosen is not there any more. Choose another one.`;
    default:
      return `The ${what} could not be opened: ${messageOf(error)}`;
  }
}

function devices(): MediaDevices {
  // Browsers hide capture from pages that are neither local nor encrypted.
  if (!navigator.mediaDevices) {
    throw new CaptureError(
      "Browsers give cameras, microphones and screens only to pages opened by https or on this machine. " +
        "The test picture works everywhere.",
    );
  }
  return navigator.mediaDevices;
}

const exactly = (deviceId: string) => (deviceId ? { deviceId: { exact: deviceId } } : {});

function microphone(settings: Settings): Promise<MediaStream> {
  const voice = settings.voiceProcessing;
  return devices().getUserMedia({
    audio: {
      ...exactly(settings.microphoneId),
      echoCancellation: voice,
      noiseSuppression: voice,
      autoGainControl: voice,
      channelCount: { ideal: settings.stereo ? 2 : 1 },
    },
  });
}

function camera(settings: Settings): Promise<MediaStream> {
  const { width, height } = dimensions(settings);
  return devices().getUserMedia({
    video: {
      ...exactly(settings.cameraId),
      width: { ideal: width },
      height: { ideal: height },
      frameRate: { ideal: settings.fps },
    },
  });
}

/** The microphone is wanted but not needed: a show without sound is still a show. */
async function microphoneOrNot(settings: Settings) {
  try {
    const [track] = (await microphone(settings)).getAudioTracks();
    return { track, warning: undefined };
  } catch (error) {
    if (error instanceof CaptureError) throw error;
    return { track: undefined, warning: captureMessage(error, "microphone") };
  }
}

function hint(track: MediaStreamTrack | undefined, value: string): void {
  if (track && "contentHint" in track) track.contentHint = value;
}

async function fromCamera(settings: Settings): Promise<Capture> {
  let stream: MediaStream;
  try {
    stream = await camera(settings);
  } catch (error) {
    if (error instanceof CaptureError) throw error;
    throw new CaptureError(captureMessage(error, "camera"));
  }
  const [video] = stream.getVideoTracks();
  const sound = await microphoneOrNot(settings);
  hint(video, contentHint(settings));
  hint(sound.track, settings.voiceProcessing ? "speech" : "music");
  return {
    video,
    audio: sound.track,
    warning: sound.warning,
    stop: () => {
      video?.stop();
      sound.track?.stop();
    },
  };
}

/** Two sounds as one track: what the shared screen plays, and the microphone. */
function mix(
  context: AudioContext,
  tracks: readonly MediaStreamTrack[],
): MediaStreamTrack | undefined {
  if (tracks.length < 2) return tracks[0];
  const destination = context.createMediaStreamDestination();
  for (const track of tracks) {
    context.createMediaStreamSource(new MediaStream([track])).connect(destination);
  }
  return destination.stream.getAudioTracks()[0];
}

async function fromScreen(settings: Settings, context: AudioContext): Promise<Capture> {
  const { width, height } = dimensions(settings);
  const source = devices();
  if (!source.getDisplayMedia) throw new CaptureError("This browser cannot share a screen.");
  let stream: MediaStream;
  try {
    stream = await source.getDisplayMedia({
      video: { width: { max: width }, height: { max: height }, frameRate: { max: settings.fps } },
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw new CaptureError(captureMessage(error, "screen"));
  }
  const [video] = stream.getVideoTracks();
  const sound = await microphoneOrNot(settings);
  const tracks = [...stream.getAudioTracks(), ...(sound.track ? [sound.track] : [])];
  hint(video, contentHint(settings));
  return {
    video,
    audio: mix(context, tracks),
    warning: sound.warning,
    stop: () => {
      for (const track of [...stream.getTracks(), ...tracks]) track.stop();
    },
  };
}

function fromPattern(settings: Settings, context: AudioContext): Capture {
  const { width, height } = dimensions(settings);
  const picture = startPattern({
    width,
    height,
    fps: settings.fps,
    label: `${width}×${height} ${settings.fps} fps`,
  });
  hint(picture.track, contentHint(settings));
  const sound: SoundSource = startSound(context, settings.sound);
  hint(sound.track, "music");
  return {
    video: picture.track,
    audio: sound.track,
    warning: undefined,
    stop: () => {
      picture.stop();
      sound.stop();
    },
  };
}

export async function openCapture(settings: Settings, context: AudioContext): Promise<Capture> {
  if (settings.source === "pattern") return fromPattern(settings, context);
  return settings.source === "screen" ? fromScreen(settings, context) : fromCamera(settings);
}

export interface Devices {
  readonly cameras: readonly MediaDeviceInfo[];
  readonly microphones: readonly MediaDeviceInfo[];
}

export async function listDevices(): Promise<Devices> {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  // Before permission is given a browser lists one nameless device of each kind.
  const named = all.filter((device) => device.deviceId !== "");
  return {
    cameras: named.filter((device) => device.kind === "videoinput"),
    microphones: named.filter((device) => device.kind === "audioinput"),
  };
}
