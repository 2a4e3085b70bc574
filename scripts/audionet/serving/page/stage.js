import { PATTERNS, drawCells, drawLines, drawRuler, lanesOf, surface } from "./drawing.js";
import { element, made, state } from "./state.js";
import { apart, chunkSure, clock, heard, lasting, segmentSure } from "./words.js";

/** @import {Answer, Model, Picture, Segment} from "./api.js" */
/** @import {Cell, Lane} from "./drawing.js" */

const COLOURS = 8;
/** Number of looks: 8 colours and 5 patterns share no divisor, so each label has a pair of its own. */
const LOOKS = COLOURS * PATTERNS;
/** Maximum number of rows in a table; enough for an hour, the default limit of a recording. */
const MOST_ROWS = 5000;
/** Width of the tracks, pixels, below which their names stand above them. */
const NARROW = 560;
const player = /** @type {HTMLAudioElement} */ (element("player"));
const seek = element("seek");
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Convert chunks to time intervals; an overlapping chunk ends where the next begins.
 *
 * Each has the name of the segment that most of it lies in, as the lanes have, and that of its own decision.
 *
 * @param {Answer} answer
 * @param {?Model} model
 * @returns {Cell[]}
 */
function cellsOf(answer, model) {
  const long = model?.chunk_seconds ?? 3;
  return answer.per_chunk.map((chunk, i, all) => {
    const end = Math.min(chunk.start + long, all[i + 1]?.start ?? answer.seconds ?? Infinity);
    const said = (!answer.present && segmentOf(answer.segments, chunk.start, end)) || chunk;
    return { start: chunk.start, end, name: heard(said), unknown: said.unknown };
  });
}

/** Return the segment that most of an interval lies in. @param {Segment[]} segments @param {number} start @param {number} end */
function segmentOf(segments, start, end) {
  const shared = (/** @type {Segment} */ it) => Math.min(it.end, end) - Math.max(it.start, start);
  const first = segments.findIndex((it) => it.end > start);
  let best = null;
  for (let i = first; i >= 0 && i < segments.length && segments[i].start < end; i++) {
    if (!best || shared(segments[i]) > shared(best)) best = segments[i];
  }
  return best;
}

/** @param {Answer} answer */
function voicesOf({ segments }) {
  return lanesOf(segments.map((segment) => ({ ...segment, name: heard(segment) })));
}

/**
 * Return the colour and the pattern of a label, the same in bars, chunks and lanes, and for all recordings.
 *
 * @param {string} name
 */
export function look(name) {
  const known = [...(state.model?.labels ?? []), ...(state.model?.enrolled ?? [])];
  const place = known.indexOf(name);
  const lane = state.lanes.findIndex((it) => !it.unknown && it.name === name);
  const number = place >= 0 && known.length <= LOOKS ? place : lane;
  if (number < 0) return { colour: "--edge", pattern: 0 };
  return { colour: `--voice-${number % COLOURS}`, pattern: number % PATTERNS };
}

/** Prepare the chunks and lanes of an answer; the spectrogram follows later. @param {Answer} answer @param {File} file */
export function prepareStage(answer, file) {
  state.chunks = cellsOf(answer, state.model);
  state.lanes = voicesOf(answer);
  state.span = answer.seconds || 1;
  state.time = 0;
  loadSound(file);
  element("spectrogram").hidden = true;
  element("spectrogram-note").textContent = "Drawing the spectrogram…";
  element("spectrogram-box").setAttribute("aria-busy", "true");
  for (const old of document.querySelectorAll(".lane")) old.remove();
  for (const lane of state.lanes) seek.before(...laneRow(lane));
  prepareTable("segments", answer.segments, (it) => [it.start, it.end, heard(it), segmentSure(it)]);
  prepareTable("chunk", answer.per_chunk, (it, i) => [it.start, state.chunks[i].end, heard(it), chunkSure(it)]);
}

/** @param {Lane} lane */
function laneRow({ name, seconds }) {
  const title = made("div");
  title.className = "name lane";
  title.append(made("bdi", name), made("span", clock(seconds)));
  title.title = name;
  const canvas = made("canvas");
  canvas.className = "lane";
  title.ariaHidden = canvas.ariaHidden = "true"; // the slider and the tables say the same
  return [title, canvas];
}

/** Show an image of the whole clip. @param {Picture} got @param {string} alt "": a spectrogram @param {AbortSignal} signal */
export async function showPicture({ picture, seconds }, alt, signal) {
  const image = element("spectrogram");
  const url = URL.createObjectURL(picture);
  const { file, answer } = state;
  try {
    image.src = url;
    await image.decode();
    if (signal.aborted) return;
    const long = lasting(answer?.seconds ?? seconds);
    image.alt = alt || `Spectrogram of ${file?.name}: ${long} from left to right, low pitch at the bottom`;
    // The last chunk may be longer than the rest of the recording, or a rest of less than half a chunk left out.
    state.span = Math.max(seconds, answer?.seconds ?? 0) || state.span;
    image.style.width = `${(100 * (seconds || state.span)) / state.span}%`;
    showNoSpectrogram("");
    image.hidden = false;
    draw();
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** @param {string} reason */
export function showNoSpectrogram(reason) {
  element("spectrogram-note").textContent = reason;
  element("spectrogram-box").removeAttribute("aria-busy");
}

/** @param {File} file */
function loadSound(file) {
  URL.revokeObjectURL(player.src);
  player.hidden = false;
  element("player-note").hidden = true;
  player.src = URL.createObjectURL(file);
}

/** Stop playing and release the file. */
export function emptyStage() {
  URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
  player.load();
}

/**
 * Create a table's rows when it is opened: an hour has 1200.
 *
 * @template T
 * @param {string} id
 * @param {T[]} things
 * @param {(thing: T, place: number) => [number, number, string, string]} row
 */
function prepareTable(id, things, row) {
  const details = element(`${id}-part`);
  details.open = false;
  details.hidden = things.length === 0;
  details.ontoggle = () => {
    const rows = details.open ? things.slice(0, MOST_ROWS).map(row) : [];
    element(`${id}-rows`).replaceChildren(...rows.map(tableRow));
  };
}

/** @param {[number, number, string, string]} cells */
function tableRow([start, end, name, sure]) {
  const row = made("tr");
  row.append(made("th", clock(start, 1)), made("td", clock(end, 1)), made("td", name), made("td", sure));
  row.firstElementChild?.setAttribute("scope", "row");
  row.children[2].setAttribute("dir", "auto");
  return row;
}

/** Draw everything that depends on width and colours. */
export function draw() {
  if (!state.answer) return;
  const style = getComputedStyle(document.documentElement);
  const ink = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const lookOf = (/** @type {{name: string}} */ cell) => {
    const { colour, pattern } = look(cell.name);
    return { colour: ink(colour), pattern };
  };
  const inks = { hatch: ink("--hatch"), text: ink("--on-voice") };
  drawLines(surface(element("lines")), state.chunks, state.span);
  drawRuler(surface(element("ruler")), state.span, ink("--soft"), clock);
  const isNarrow = element("tracks").clientWidth < NARROW; // lanes have names beside them, and the cursor hides none
  drawCells(surface(element("chunks")), state.chunks, state.span, lookOf, inks, !isNarrow);
  for (const [i, { spans }] of state.lanes.entries()) {
    const canvas = /** @type {HTMLCanvasElement} */ (document.querySelectorAll("canvas.lane")[i]);
    const lane = state.lanes[i];
    drawCells(surface(canvas), spans, state.span, () => lookOf(lane), inks, false);
  }
  showTime();
}

/** Describe the chunk at a time. @param {number} time */
export function heardAt(time) {
  const place = state.chunks.findLastIndex((cell) => cell.start <= time);
  const cell = state.chunks[place];
  if (!cell || time > cell.end) return `${clock(time, 1)}, silence`;
  const chunk = /** @type {Answer} */ (state.answer).per_chunk[place];
  const sure = chunkSure(chunk);
  const times = `${clock(cell.start, 1)} to ${clock(cell.end, 1)}`;
  const own = heard(chunk);
  if (own === cell.name) return `${times}: ${apart(cell.name)}${cell.unknown ? "" : `, ${sure}`}`;
  return `${times}: ${apart(cell.name)} (alone: ${apart(own)}${chunk.unknown ? "" : `, ${sure}`})`;
}

function showTime() {
  element("cursor").style.left = `${Math.min(100, (100 * state.time) / state.span)}%`;
  const text = heardAt(state.time);
  element("readout").textContent = text;
  seek.ariaValueMax = end().toFixed(1);
  seek.ariaValueNow = state.time.toFixed(1);
  seek.ariaValueText = `${clock(state.time, 1)}; ${text}`;
}

const end = () => state.answer?.seconds ?? state.span;
const playable = () => player.error === null && player.hasAttribute("src");

/** @param {number} time */
function goTo(time) {
  state.time = Math.max(0, Math.min(end(), time));
  if (playable()) player.currentTime = state.time;
  showTime();
}

let frame = 0;

function followSound() {
  state.time = player.currentTime;
  showTime();
  cancelAnimationFrame(frame);
  if (!player.paused && !still.matches) frame = requestAnimationFrame(followSound);
}

/** Number of chunks by which a key moves the cursor. @type {Record<string, number>} */
const KEYS = {
  ArrowLeft: -1,
  ArrowDown: -1,
  ArrowRight: 1,
  ArrowUp: 1,
  PageDown: -10,
  PageUp: 10,
  Home: -Infinity,
  End: Infinity,
};

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key in KEYS) goTo(state.time + KEYS[event.key] * (state.model?.step_seconds ?? 3));
  else if (event.key === " " && playable()) void (player.paused ? player.play() : player.pause());
  else return;
  event.preventDefault();
}

/** @param {PointerEvent} event */
function onPointer(event) {
  const box = seek.getBoundingClientRect();
  const time = ((event.clientX - box.left) / box.width) * state.span;
  if (event.type === "pointerdown") seek.setPointerCapture(event.pointerId);
  if (event.type === "pointerdown" || event.buttons & 1) goTo(time);
  else element("readout").textContent = heardAt(Math.max(0, Math.min(end(), time)));
}

/** Register the event handlers that move the cursor or redraw. */
export function wireStage() {
  seek.addEventListener("keydown", onKey);
  seek.addEventListener("pointerdown", onPointer);
  seek.addEventListener("pointermove", onPointer);
  seek.addEventListener("pointerleave", showTime);
  player.addEventListener("play", followSound);
  for (const name of ["timeupdate", "seeking"]) player.addEventListener(name, followSound);
  player.addEventListener("error", () => {
    if (!player.hasAttribute("src")) return;
    player.hidden = true;
    element("player-note").hidden = false;
    element("player-note").textContent = "This browser cannot play this file. The answer is not affected.";
  });
  new ResizeObserver(draw).observe(element("tracks"));
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
    matchMedia(query).addEventListener("change", draw);
  }
}
