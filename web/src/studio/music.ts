// The sound of the test picture, computed once and looped by the sound card's own clock: no timer, no seam.
//
// `music` is eight bars of slow broken chords. `tone` is for measurements: left a steady 1 kHz sine, right a beep of
// 600 Hz for the first 100 ms of every second; both complete whole periods in the loop.

export type Sound = "music" | "tone" | "silence";

export interface Loop {
  readonly left: Float32Array<ArrayBuffer>;
  readonly right: Float32Array<ArrayBuffer>;
}

const BAR_S = 2;
/** Root, third, fifth and octave of each bar, as semitones from A3: Am, F, C, G. */
const CHORDS = [
  [0, 3, 7, 12],
  [-4, 0, 3, 8],
  [3, 7, 10, 15],
  [-2, 2, 5, 10],
] as const;
const A3 = 220;

const pitch = (semitones: number) => A3 * 2 ** (semitones / 12);

/** Adds a plucked note; what rings beyond the end continues at the beginning, so the loop has no seam. */
function pluck(loop: Loop, rate: number, note: { at: number; hz: number; pan: number }): void {
  const length = Math.round(1.8 * rate);
  const start = Math.round(note.at * rate);
  const total = loop.left.length;
  for (let i = 0; i < length; i += 1) {
    const t = i / rate;
    const attack = Math.min(1, t / 0.008);
    const release = Math.min(1, (length - i) / (0.05 * rate));
    const envelope = attack * release * Math.exp(-2.6 * t) * 0.16;
    const phase = 2 * Math.PI * note.hz * t;
    const value = envelope * (Math.sin(phase) + 0.35 * Math.sin(2 * phase) * Math.exp(-3 * t));
    const at = (start + i) % total;
    loop.left[at] = (loop.left[at] ?? 0) + value * (1 - note.pan);
    loop.right[at] = (loop.right[at] ?? 0) + value * (1 + note.pan);
  }
}

function empty(seconds: number, rate: number): Loop {
  const length = Math.round(seconds * rate);
  return { left: new Float32Array(length), right: new Float32Array(length) };
}

export function renderMusic(rate: number): Loop {
  const loop = empty(CHORDS.length * BAR_S, rate);
  CHORDS.forEach((chord, bar) => {
    const order = [0, 1, 2, 3, 2, 1, 2, 3];
    order.forEach((voice, step) => {
      const semitones = chord[voice as 0 | 1 | 2 | 3];
      const pan = ((step % 4) - 1.5) / 4;
      pluck(loop, rate, { at: bar * BAR_S + (step * BAR_S) / 8, hz: pitch(semitones), pan });
    });
    pluck(loop, rate, { at: bar * BAR_S, hz: pitch(chord[0] - 12), pan: 0 });
  });
  return loop;
}

export function renderTone(rate: number): Loop {
  const loop = empty(1, rate);
  for (let i = 0; i < loop.left.length; i += 1) {
    const t = i / rate;
    loop.left[i] = 0.4 * Math.sin(2 * Math.PI * 1000 * t);
    loop.right[i] = t < 0.1 ? 0.4 * Math.sin(2 * Math.PI * 600 * t) : 0;
  }
  return loop;
}

export interface SoundSource {
  readonly track: MediaStreamTrack;
  stop(): void;
}

/** The looped sound as a track of `context`. */
export function startSound(context: AudioContext, sound: Sound): SoundSource {
  const destination = context.createMediaStreamDestination();
  destination.channelCount = 2;
  const source = context.createBufferSource();
  if (sound === "silence") {
    source.buffer = context.createBuffer(2, context.sampleRate, context.sampleRate);
  } else {
    const render = sound === "tone" ? renderTone : renderMusic;
    const loop = render(context.sampleRate);
    const buffer = context.createBuffer(2, loop.left.length, context.sampleRate);
    buffer.copyToChannel(loop.left, 0);
    buffer.copyToChannel(loop.right, 1);
    source.buffer = buffer;
  }
  source.loop = true;
  source.connect(destination);
  source.start();
  const [track] = destination.stream.getAudioTracks();
  if (!track) throw new Error("This browser cannot make sound for a stream.");
  return {
    track,
    stop: () => {
      source.stop();
      track.stop();
    },
  };
}
