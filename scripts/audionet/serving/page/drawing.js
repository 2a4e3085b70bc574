/** @import {Chunk, Segment} from "./api.js" */
/**
 * @typedef {{start: number, end: number, name: string, unknown: boolean}} Cell
 * @typedef {{name: string, unknown: boolean, spans: Cell[], seconds: number}} Lane
 * @typedef {{paint: CanvasRenderingContext2D, width: number, height: number}} Surface
 */

const MOST_LANES = 12;
const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/**
 * Create a lane for each speaker, the longest first, unknown ones last; if there are very many, the rest share one.
 *
 * @param {Cell[]} cells
 * @returns {Lane[]}
 */
export function lanesOf(cells) {
  const rows = new Map();
  for (const cell of cells) {
    const key = cell.unknown ? "" : `=${cell.name}`; // a label may be called "Unknown"
    const row = rows.get(key) ?? { name: cell.name, unknown: cell.unknown, spans: [], seconds: 0 };
    row.spans.push(cell);
    row.seconds += cell.end - cell.start;
    rows.set(key, row);
  }
  const known = [...rows.values()].filter((row) => !row.unknown).sort((a, b) => b.seconds - a.seconds);
  const rest = known.splice(known.length > MOST_LANES ? MOST_LANES - 1 : MOST_LANES);
  if (rest.length) {
    const seconds = rest.reduce((sum, row) => sum + row.seconds, 0);
    known.push({ name: `${rest.length} others`, unknown: false, spans: rest.flatMap((row) => row.spans), seconds });
  }
  return [...known, ...[...rows.values()].filter((row) => row.unknown)];
}

/**
 * Clear a canvas and prepare it for drawing in CSS pixels.
 *
 * @param {HTMLCanvasElement} canvas
 * @returns {Surface}
 */
export function surface(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  paint.scale(density, density);
  return { paint, width, height };
}

/**
 * Draw lines at the edges of chunks, unless they would hide the spectrogram.
 *
 * @param {Surface} on
 * @param {Cell[]} cells
 * @param {number} span
 */
export function drawLines({ paint, width, height }, cells, span) {
  if (!cells.length || (width / span) * (cells[0].end - cells[0].start) < 6) return;
  const edges = new Set(cells.flatMap(({ start, end }) => [start, end]).map((at) => Math.round((at / span) * width)));
  paint.fillStyle = "rgb(255 255 255 / 60%)";
  for (const x of edges) if (x > 0 && x < width - 1) paint.fillRect(x, 0, 1, height);
}

/**
 * Draw time intervals in a row; unknown ones are hatched, and wide ones show their name.
 *
 * @param {Surface} on
 * @param {Cell[]} cells
 * @param {number} span
 * @param {(cell: Cell) => string} colour
 * @param {{hatch: string, text: string}} inks `text` empty: no names
 */
export function drawCells({ paint, width, height }, cells, span, colour, inks) {
  const place = (/** @type {Cell} */ cell) => {
    const left = Math.floor((cell.start / span) * width);
    return { left, wide: Math.max(1, Math.floor((cell.end / span) * width) - left) };
  };
  // Wide cells lose a pixel to the gap between them.
  const box = (/** @type {Cell} */ cell) => {
    const { left, wide } = place(cell);
    return /** @type {const} */ ([left, 0, wide > 5 ? wide - 1 : wide, height]);
  };
  paint.save();
  paint.beginPath();
  for (const cell of cells) if (cell.unknown) paint.rect(...box(cell));
  paint.clip();
  paint.strokeStyle = inks.hatch;
  paint.lineWidth = 1.5;
  paint.beginPath();
  for (let x = -height; x < width; x += 6) {
    paint.moveTo(x, height);
    paint.lineTo(x + height, 0);
  }
  paint.stroke();
  paint.restore();
  paint.font = "12px system-ui, sans-serif";
  paint.textBaseline = "middle";
  paint.textAlign = "center";
  for (const cell of cells) {
    if (cell.unknown) continue;
    const { left, wide } = place(cell);
    paint.fillStyle = colour(cell);
    paint.fillRect(...box(cell));
    const text = inks.text && wide > 20 ? fitting(paint, cell.name, wide - 8) : "";
    paint.fillStyle = inks.text;
    if (text) paint.fillText(text, left + wide / 2, height / 2 + 1);
  }
}

/**
 * Shorten a name to fit; empty if only one letter would fit.
 *
 * @param {CanvasRenderingContext2D} paint
 * @param {string} name
 * @param {number} room
 */
function fitting(paint, name, room) {
  if (paint.measureText(name).width <= room) return name;
  const letters = [...name].slice(0, Math.floor(room / 4));
  while (letters.length > 1 && paint.measureText(`${letters.join("")}…`).width > room) letters.pop();
  return letters.length > 1 ? `${letters.join("")}…` : "";
}

/**
 * @param {Surface} on
 * @param {number} span
 * @param {string} ink
 * @param {(seconds: number, decimals: number) => string} clock
 */
export function drawRuler({ paint, width, height }, span, ink, clock) {
  const step = TICKS.find((tick) => (tick / span) * width >= 64) ?? 7200;
  paint.fillStyle = ink;
  paint.font = "12px system-ui, sans-serif";
  paint.textBaseline = "bottom";
  for (let tick = 0; tick * step < span; tick++) {
    const x = ((tick * step) / span) * width;
    const text = clock(tick * step, step < 1 ? 1 : 0);
    paint.fillRect(Math.round(x), 0, 1, 5);
    if (x + paint.measureText(text).width < width) paint.fillText(text, x + (tick ? 4 : 3), height);
  }
}
