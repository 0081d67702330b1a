// The test picture as a video track.

import { drawPattern } from "./pattern";
import type { Start } from "./pattern-worker";

export interface PatternSource {
  readonly track: MediaStreamTrack;
  stop(): void;
}

/** Chromium's way to build a track from frames; not in the standard library's types. */
type Generator = MediaStreamTrack & { readonly writable: WritableStream<VideoFrame> };
type GeneratorConstructor = new (init: { kind: "video" }) => Generator;

function generator(): Generator | undefined {
  const Track = (globalThis as { MediaStreamTrackGenerator?: GeneratorConstructor })
    .MediaStreamTrackGenerator;
  return Track && "VideoFrame" in globalThis ? new Track({ kind: "video" }) : undefined;
}

function startWorker(start: Start, transfer: Transferable[]): Worker {
  const worker = new Worker(new URL("./pattern-worker.ts", import.meta.url), { type: "module" });
  worker.postMessage(start, transfer);
  return worker;
}

export function startPattern(options: Omit<Start, "frames">): PatternSource {
  const track = generator();
  if (track) {
    const worker = startWorker({ ...options, frames: track.writable }, [
      track.writable as unknown as Transferable,
    ]);
    return {
      track,
      stop: () => {
        worker.terminate();
        track.stop();
      },
    };
  }
  return startOnCanvas(options);
}

function startOnCanvas(options: Omit<Start, "frames">): PatternSource {
  const canvas = document.createElement("canvas");
  canvas.width = options.width;
  canvas.height = options.height;
  const context = canvas.getContext("2d", { alpha: false });
  const worker = startWorker(options, []);
  worker.onmessage = ({ data }: MessageEvent<number>) => {
    if (context) drawPattern(context, canvas, { ...options, frame: data, now: new Date() });
  };
  const [track] = canvas.captureStream(options.fps).getVideoTracks();
  if (!track) throw new Error("This browser cannot capture a canvas.");
  return {
    track,
    stop: () => {
      worker.terminate();
      track.stop();
    },
  };
}
