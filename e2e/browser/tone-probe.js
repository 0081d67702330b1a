// An audio worklet that listens to a 1 kHz tone in the left channel: clicks, gaps and level.
//
// A pure tone obeys x[n] = 2·cos(ω)·x[n−1] − x[n−2]. What is left of that relation is about 0.0001 after a clean AAC
// encode and far above 0.02 where a sample is missing, doubled or wrong. It works without a sound device. It judges
// from the moment it is told to ("judge") and reports what it has heard when asked ("report").

const TONE_HZ = 1_000;
const CLICK_THRESHOLD = 0.02;
const SILENT = 1e-3;
/** 2 ms: far longer than the tone's own way through zero. */
const GAP_S = 0.002;
/** One click is counted once within 50 ms. */
const CLICK_HOLD_S = 0.05;

class ToneProbe extends AudioWorkletProcessor {
  constructor() {
    super();
    this.coefficient = 2 * Math.cos((2 * Math.PI * TONE_HZ) / sampleRate);
    this.last = 0;
    this.beforeLast = 0;
    this.judging = false;
    this.port.onmessage = ({ data }) => {
      if (data === "judge") this.start();
      this.port.postMessage(this.heard());
    };
    this.start();
    this.judging = false;
  }

  start() {
    this.judging = true;
    this.samples = 0;
    this.energy = 0;
    this.silent = 0;
    this.lastClick = Number.NEGATIVE_INFINITY;
    this.worst = 0;
    this.clicks = [];
    this.gaps = [];
  }

  heard() {
    const { clicks, gaps, worst, samples } = this;
    return { clicks, gaps, worst, seconds: samples / sampleRate, rms: Math.sqrt(this.energy / Math.max(1, samples)) };
  }

  process([input]) {
    const left = input?.[0];
    for (let i = 0; i < 128; i += 1) this.sample(left ? left[i] : 0);
    return true;
  }

  sample(now) {
    const residual = Math.abs(now - this.coefficient * this.last + this.beforeLast);
    this.beforeLast = this.last;
    this.last = now;
    if (!this.judging) return;
    this.samples += 1;
    this.energy += now * now;
    this.worst = Math.max(this.worst, residual);
    if (residual > CLICK_THRESHOLD && this.samples - this.lastClick > CLICK_HOLD_S * sampleRate) {
      this.lastClick = this.samples;
      this.clicks.push({ at: this.samples / sampleRate, residual });
    }
    if (Math.abs(now) < SILENT) {
      this.silent += 1;
      return;
    }
    if (this.silent > GAP_S * sampleRate) {
      this.gaps.push({ at: this.samples / sampleRate, seconds: this.silent / sampleRate });
    }
    this.silent = 0;
  }
}

registerProcessor("tone-probe", ToneProbe);
