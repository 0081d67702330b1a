// The test picture: something moves, a clock runs, and every frame carries its own number as a bar code, so that a
// newcomer without a camera can go live and a test can tell which frames arrived.
//
// The bar code: 20 square cells across the whole width, most significant bit first, white = 1; directly below, the same
// cells inverted as a check. A cell is 1/20 of the width wide (rounded down to an even number) and as high as wide.
// Frame numbers count frames that were drawn, not time, and wrap at 2^20.

export const CODE_BITS = 20;

/** The part of a 2D context that the picture needs; both the window's and the worker's have it. */
export type Drawing = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

export function cellSize(width: number): number {
  return Math.max(2, Math.floor(width / CODE_BITS / 2) * 2);
}

export function codeBits(frame: number): boolean[] {
  const value = frame % 2 ** CODE_BITS;
  return Array.from({ length: CODE_BITS }, (_, i) => (value & (1 << (CODE_BITS - 1 - i))) !== 0);
}

/** Reads the code back from luma samples at the cells' centres; undefined when the check does not match. */
export function readCode(
  luma: (x: number, y: number) => number,
  width: number,
): number | undefined {
  const cell = cellSize(width);
  let value = 0;
  for (let i = 0; i < CODE_BITS; i += 1) {
    const x = i * cell + cell / 2;
    const bit = luma(x, cell / 2) > 128;
    if (bit === luma(x, cell * 1.5) > 128) return undefined;
    value = value * 2 + (bit ? 1 : 0);
  }
  return value;
}

const INK = "#0b1a22";
const PAPER = "#e8f1f2";
const TEAL = "#2fb6a6";
const CORAL = "#ff6f5e";

/** Seven bars in the order of a classic colour bar card, softened. */
const BARS = ["#d9dee0", "#d8c65a", "#5fc3c8", "#63b96b", "#b66fc0", "#cf5a55", "#4f6fc4"];

function background(g: Drawing, width: number, height: number, top: number): void {
  const bar = width / BARS.length;
  const high = (height - top) * 0.42;
  BARS.forEach((colour, i) => {
    g.fillStyle = colour;
    g.fillRect(Math.floor(i * bar), top, Math.ceil(bar) + 1, high);
  });
  const gradient = g.createLinearGradient(0, top + high, 0, height);
  gradient.addColorStop(0, "#12303c");
  gradient.addColorStop(1, INK);
  g.fillStyle = gradient;
  g.fillRect(0, top + high, width, height - top - high);
}

function sea(g: Drawing, width: number, height: number, seconds: number): void {
  for (let layer = 0; layer < 3; layer += 1) {
    const base = height * (0.8 + layer * 0.065);
    g.fillStyle = ["rgb(47 182 166 / 35%)", "rgb(47 182 166 / 55%)", "rgb(24 110 118 / 85%)"][
      layer
    ] as string;
    g.beginPath();
    g.moveTo(0, height);
    const step = width / 40;
    for (let x = 0; x <= width + step; x += step) {
      const phase = x / (width / (5 + layer)) + seconds * (0.9 + layer * 0.35);
      g.lineTo(x, base + Math.sin(phase * 2) * height * 0.022);
    }
    g.lineTo(width, height);
    g.fill();
  }
}

function boat(g: Drawing, width: number, height: number, seconds: number): void {
  const x = ((seconds * 0.11) % 1.3) * width - width * 0.15;
  const y = height * 0.79 + Math.sin(seconds * 2.1) * height * 0.012;
  const u = height * 0.055;
  g.fillStyle = PAPER;
  g.beginPath();
  g.moveTo(x, y - u * 3.4);
  g.lineTo(x, y - u * 0.5);
  g.lineTo(x + u * 2, y - u * 0.5);
  g.fill();
  g.fillStyle = CORAL;
  g.beginPath();
  g.moveTo(x - u * 1.8, y - u * 0.3);
  g.lineTo(x + u * 2.3, y - u * 0.3);
  g.lineTo(x + u * 1.5, y + u * 0.8);
  g.lineTo(x - u * 1.1, y + u * 0.8);
  g.fill();
}

/** A hand that turns once a second: a stutter is seen at a glance. */
function dial(g: Drawing, x: number, y: number, radius: number, seconds: number): void {
  g.lineWidth = radius * 0.14;
  g.strokeStyle = PAPER;
  g.fillStyle = INK;
  g.beginPath();
  g.arc(x, y, radius, 0, Math.PI * 2);
  g.fill();
  g.stroke();
  const angle = (seconds % 1) * Math.PI * 2 - Math.PI / 2;
  g.strokeStyle = TEAL;
  g.beginPath();
  g.moveTo(x, y);
  g.lineTo(x + Math.cos(angle) * radius * 0.72, y + Math.sin(angle) * radius * 0.72);
  g.stroke();
}

function code(g: Drawing, width: number, frame: number): number {
  const cell = cellSize(width);
  g.fillStyle = "#000000";
  g.fillRect(0, 0, width, cell * 2);
  g.fillStyle = "#ffffff";
  codeBits(frame).forEach((bit, i) => {
    g.fillRect(i * cell, bit ? 0 : cell, cell, cell);
  });
  return cell * 2;
}

const two = (n: number, digits = 2) => String(n).padStart(digits, "0");

function clockText(now: Date): string {
  const hms = [now.getHours(), now.getMinutes(), now.getSeconds()].map((n) => two(n)).join(":");
  return `${hms}.${Math.floor(now.getMilliseconds() / 100)}`;
}

/** Draws frame `frame` of a picture that runs at `fps`. The time of day is for people comparing two screens. */
export function drawPattern(
  g: Drawing,
  size: { readonly width: number; readonly height: number },
  at: { readonly frame: number; readonly fps: number; readonly now: Date; readonly label: string },
): void {
  const { width, height } = size;
  const seconds = at.frame / at.fps;
  const top = code(g, width, at.frame);
  background(g, width, height, top);
  boat(g, width, height, seconds);
  sea(g, width, height, seconds);
  const unit = height / 100;
  const panel = { x: width * 0.24, y: height * 0.34, w: width * 0.52, h: unit * 30 };
  g.fillStyle = "rgb(11 26 34 / 88%)";
  g.fillRect(panel.x, panel.y, panel.w, panel.h);
  dial(g, panel.x + unit * 15, panel.y + panel.h / 2, unit * 10, seconds);
  g.textBaseline = "middle";
  g.textAlign = "left";
  const left = panel.x + unit * 30;
  const room = panel.w - unit * 33;
  g.fillStyle = PAPER;
  g.font = `600 ${unit * 12}px ui-monospace, Menlo, Consolas, monospace`;
  g.fillText(clockText(at.now), left, panel.y + unit * 10.5, room);
  g.fillStyle = "#8fd8cf";
  g.font = `500 ${unit * 5.5}px ui-monospace, Menlo, Consolas, monospace`;
  g.fillText(`${at.label} · ${two(at.frame, 6)}`, left, panel.y + unit * 21.5, room);
}
