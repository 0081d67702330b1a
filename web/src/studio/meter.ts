// How loud the sound is, for a person who wonders whether the microphone works.

export interface Level {
  readonly rmsDb: number;
  readonly peakDb: number;
}

const db = (linear: number) => (linear > 0 ? 20 * Math.log10(linear) : Number.NEGATIVE_INFINITY);

export function levelOf(samples: ArrayLike<number>): Level {
  let sum = 0;
  let peak = 0;
  for (let i = 0; i < samples.length; i += 1) {
    const value = samples[i] ?? 0;
    sum += value * value;
    peak = Math.max(peak, Math.abs(value));
  }
  return { rmsDb: db(Math.sqrt(sum / Math.max(1, samples.length))), peakDb: db(peak) };
}

/** Rises at once and falls slowly, as a needle does; `fallDbPerS` decibels each second. */
export class Needle {
  #valueDb = Number.NEGATIVE_INFINITY;
  #atMs = 0;
  readonly #fallDbPerS: number;

  constructor(fallDbPerS = 24) {
    this.#fallDbPerS = fallDbPerS;
  }

  push(levelDb: number, nowMs: number): number {
    const fallen = this.#valueDb - (this.#fallDbPerS * (nowMs - this.#atMs)) / 1000;
    this.#valueDb = Math.max(levelDb, Number.isFinite(fallen) ? fallen : levelDb);
    this.#atMs = nowMs;
    return this.#valueDb;
  }
}

/** Listens to one track; silent when there is none. */
export class TrackMeter {
  readonly #context: AudioContext;
  #source: MediaStreamAudioSourceNode | undefined;
  readonly #analyser: AnalyserNode;
  readonly #samples: Float32Array<ArrayBuffer>;

  constructor(context: AudioContext) {
    this.#context = context;
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 2048;
    this.#samples = new Float32Array(this.#analyser.fftSize);
  }

  listen(track: MediaStreamTrack | undefined): void {
    this.#source?.disconnect();
    this.#source = track
      ? this.#context.createMediaStreamSource(new MediaStream([track]))
      : undefined;
    this.#source?.connect(this.#analyser);
  }

  read(): Level {
    if (!this.#source) return { rmsDb: Number.NEGATIVE_INFINITY, peakDb: Number.NEGATIVE_INFINITY };
    this.#analyser.getFloatTimeDomainData(this.#samples);
    return levelOf(this.#samples);
  }
}
