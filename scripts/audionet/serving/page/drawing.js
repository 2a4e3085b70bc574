/** @import {Chunk, Segment} from "./api.js" */
/**
 * @typedef {{start: number, end: number, name: string, unknown: boolean}} Cell
 * @typedef {{name: string, unknown: boolean, spans: Cell[], seconds: number}} Lane
 * @typedef {{paint: CanvasRenderingContext2D, width: number, height: number}} Surface
 */

/** Number of patterns that a cell may be filled with; the first is none. */
export const PATTERNS = 5;
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
 * @param {(cell: Cell) => {colour: string, pattern: number}} look
 * @param {{hatch: string, text: string}} inks
 * @param {boolean} named
 */
export function drawCells({ paint, width, height }, cells, span, look, inks, named) {
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
    const { colour, pattern } = look(cell);
    paint.fillStyle = colour;
    paint.fillRect(...box(cell));
    drawPattern(paint, pattern, box(cell), inks.text);
    const text = named && wide > 20 ? fitting(paint, cell.name, wide - 8) : "";
    if (!text) continue;
    const room = paint.measureText(text).width + 6;
    paint.fillStyle = colour; // no pattern behind the text
    paint.fillRect(left + (wide - room) / 2, 0, room, height);
    paint.fillStyle = inks.text;
    paint.fillText(text, left + wide / 2, height / 2 + 1);
  }
}

/**
 * Draw a pattern, which tells labels apart whose colours look alike: dots, bars, lines or a grid.
 *
 * @param {CanvasRenderingContext2D} paint
 * @param {number} pattern
 * @param {readonly [number, number, number, number]} box
 * @param {string} ink
 */
function drawPattern(paint, pattern, [left, top, wide, high], ink) {
  if (!pattern) return;
  paint.save();
  paint.beginPath();
  paint.rect(left, top, wide, high);
  paint.clip();
  paint.globalAlpha = 0.6;
  paint.fillStyle = ink;
  const first = left - (left % 6); // so that neighbours of one label join
  for (let x = first; x < left + wide; x += 6) {
    if (pattern === 2 || pattern === 4) paint.fillRect(x, top, 1, high);
    if (pattern === 1) for (let y = top + 2; y < top + high; y += 6) paint.fillRect(x, y, 2, 2);
  }
  if (pattern >= 3) for (let y = top + 3; y < top + high; y += 6) paint.fillRect(left, y, wide, 1);
  paint.restore();
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
