// One small line plot on a canvas: the last minutes of one or two series. Colours come from the design system, so both
// schemes work; the newest value stands in the caption as text, for everybody who does not see the line.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Axis, type Box, nearest, segments, xOf, yOf } from "./scale";
import type { Series } from "./series";

export interface Line {
  readonly name: string;
  readonly series: Series;
  /** A custom property of the design system, for example `--accent`. */
  readonly colour: string;
}

export interface PlotProps {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly axis: Axis;
  readonly format: (value: number) => string;
  /** Shorter, for the axis. */
  readonly tick: (value: number) => string;
  readonly spanMs: number;
  readonly nowMs: number;
}

const GAP_MS = 5_000;
const HEIGHT = 132;
const LABEL_WIDTH = 66;

interface Scene {
  readonly context: CanvasRenderingContext2D;
  readonly box: Box;
  readonly style: CSSStyleDeclaration;
  readonly props: PlotProps;
}

function drawGrid({ context, box, style, props }: Scene): void {
  context.font = `12px ${style.getPropertyValue("--font")}`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.lineWidth = 1;
  for (const tick of props.axis.ticks) {
    const y = Math.round(yOf(tick, props.axis, box)) + 0.5;
    context.strokeStyle = style.getPropertyValue("--line");
    context.beginPath();
    context.moveTo(box.x, y);
    context.lineTo(box.x + box.width, y);
    context.stroke();
    context.fillStyle = style.getPropertyValue("--muted");
    context.fillText(props.tick(tick), box.x + box.width + 6, y);
  }
}

function drawLine({ context, box, style, props }: Scene, line: Line): void {
  context.strokeStyle = style.getPropertyValue(line.colour);
  context.lineWidth = 2;
  context.lineJoin = "round";
  for (const part of segments(line.series.points, GAP_MS)) {
    context.beginPath();
    part.forEach((point, i) => {
      const x = xOf(point.atMs, props.nowMs, props.spanMs, box);
      const y = yOf(point.value, props.axis, box);
      if (i === 0) context.moveTo(x, y);
      else context.lineTo(x, y);
    });
    context.stroke();
  }
}

function drawCursor({ context, box, style, props }: Scene, pointerX: number): void {
  const atMs = props.nowMs - props.spanMs * (1 - (pointerX - box.x) / box.width);
  const found = props.lines.flatMap((line) => {
    const point = nearest(line.series.points, atMs);
    return point ? [{ line, point }] : [];
  });
  const first = found[0];
  if (!first) return;
  const x = xOf(first.point.atMs, props.nowMs, props.spanMs, box);
  context.strokeStyle = style.getPropertyValue("--line-strong");
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x, box.y);
  context.lineTo(x, box.y + box.height);
  context.stroke();
  for (const { line, point } of found) {
    context.fillStyle = style.getPropertyValue(line.colour);
    context.beginPath();
    context.arc(x, yOf(point.value, props.axis, box), 3.5, 0, Math.PI * 2);
    context.fill();
  }
  const ago = Math.round((props.nowMs - first.point.atMs) / 1000);
  const text = `${found.map(({ point }) => props.format(point.value)).join(" / ")} · ${ago} s ago`;
  const width = context.measureText(text).width;
  const left = Math.min(Math.max(box.x, x - width / 2), box.x + box.width - width);
  context.fillStyle = style.getPropertyValue("--surface");
  context.fillRect(left - 4, box.y, width + 8, 18);
  context.fillStyle = style.getPropertyValue("--text");
  context.fillText(text, left, box.y + 9);
}

function draw(canvas: HTMLCanvasElement, props: PlotProps, pointerX: number | undefined): void {
  const context = canvas.getContext("2d");
  const width = canvas.clientWidth;
  if (!context || width === 0) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(HEIGHT * ratio);
  context.scale(ratio, ratio);
  context.clearRect(0, 0, width, HEIGHT);
  const box = { x: 0, y: 8, width: width - LABEL_WIDTH, height: HEIGHT - 16 };
  const scene: Scene = { context, box, style: getComputedStyle(canvas), props };
  drawGrid(scene);
  for (const line of props.lines) drawLine(scene, line);
  if (pointerX !== undefined && pointerX <= box.width) drawCursor(scene, pointerX);
}

export function Plot(props: PlotProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [pointerX, setPointerX] = useState<number | undefined>(undefined);
  const [, setSize] = useState(0);
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setSize(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current) draw(canvas.current, props, pointerX);
  });
  const newest = props.lines.map((line) => {
    const last = line.series.last;
    return { line, text: last ? props.format(last.value) : "–" };
  });
  return (
    <figure class="plot">
      <figcaption class="plot__caption">
        <span class="plot__title">{props.title}</span>
        {newest.map(({ line, text }) => (
          <span class="plot__value" key={line.name}>
            {props.lines.length > 1 ? (
              <span class="plot__key" data-colour={line.colour} aria-hidden="true" />
            ) : null}
            {props.lines.length > 1 ? <span class="muted">{line.name} </span> : null}
            {text}
          </span>
        ))}
      </figcaption>
      <canvas
        ref={canvas}
        class="plot__canvas"
        role="img"
        aria-label={`${props.title} over time`}
        onPointerMove={(event) => setPointerX(event.offsetX)}
        onPointerLeave={() => setPointerX(undefined)}
      />
    </figure>
  );
}
