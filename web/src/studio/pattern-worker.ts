// The pacemaker of the test picture. Timers of a page in the background fire once a second; those of a worker do not,
// so going to another tab does not freeze what viewers see. Where the browser can build a track from frames the worker
// draws them too; elsewhere it only sends ticks and the page draws.

import { drawPattern } from "./pattern";

export interface Start {
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  readonly label: string;
  /** Takes `VideoFrame`s; absent where only ticks are wanted. */
  readonly frames?: WritableStream<VideoFrame>;
}

/** The part of a dedicated worker's scope that is used; its full type would clash with the window's. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<Start>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

const scope = self as unknown as WorkerScope;

/** Calls `draw` with 0, 1, 2… at `fps`, without drift; frames that are late are drawn late, never left out. */
function pace(fps: number, draw: (frame: number) => void): void {
  const period = 1000 / fps;
  let frame = 0;
  let start = performance.now();
  const tick = () => {
    draw(frame);
    frame += 1;
    const behind = performance.now() - (start + frame * period);
    // After a pause of the whole machine a burst would help nobody.
    if (behind > 500) start += behind;
    setTimeout(tick, Math.max(0, start + frame * period - performance.now()));
  };
  tick();
}

function drawInto(frames: WritableStream<VideoFrame>, options: Start): void {
  const canvas = new OffscreenCanvas(options.width, options.height);
  const context = canvas.getContext("2d", { alpha: false });
  if (!context) return;
  const writer = frames.getWriter();
  pace(options.fps, (frame) => {
    drawPattern(context, canvas, { ...options, frame, now: new Date() });
    // The shared time origin keeps picture and sound of the page on one clock.
    const timestamp = Math.round((performance.timeOrigin + performance.now()) * 1000);
    const picture = new VideoFrame(canvas, { timestamp });
    writer.write(picture).catch(() => scope.close());
  });
}

scope.onmessage = ({ data }) => {
  if (data.frames) drawInto(data.frames, data);
  else pace(data.fps, (frame) => scope.postMessage(frame));
};
