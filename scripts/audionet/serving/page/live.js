import { element, made, say } from "./state.js";
import { apart, clock, heard, percent } from "./words.js";

/**
 * @typedef {{type: "now", seconds: number, pause: boolean, label: ?string, unknown: boolean, present?: string[],
 *   probability: number}} Now
 * @typedef {{type: "segment", start: number, end: number, label: ?string, unknown: boolean}} Turn
 * @typedef {{type: "problem" | "warning", detail: string}} Notice
 * @typedef {Now | Turn | Notice | {type: "ready" | "end"}} Message
 * @typedef {{send: (samples: Int16Array<ArrayBuffer>) => void, close: () => void}} Live
 */

const SUBPROTOCOL = "audionet";
const MOST_TURNS = 6;
/** More than this has not been sent: the connection is too slow for sound. */
const MOST_SECONDS_UNSENT = 5;

/** Encode an API key as a subprotocol, as pages can set no headers for a WebSocket. @param {string} key */
function keyProtocol(key) {
  return `bearer.${btoa(key).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/**
 * Send sound while it is recorded, and show who is heard.
 *
 * @param {string} key
 * @param {number} rate
 * @returns {Live}
 */
export function openLive(key, rate) {
  const address = new URL(`v1/listen?rate=${rate}`, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, key ? [SUBPROTOCOL, keyProtocol(key)] : [SUBPROTOCOL]);
  /** @type {Int16Array<ArrayBuffer>[]} */ let waiting = [];
  let isOver = false;
  clearLive();
  const close = () => {
    isOver = true;
    waiting = [];
    socket.close();
  };
  /** @param {string} reason */
  const fail = (reason) => {
    if (isOver) return;
    close();
    element("now").textContent = reason;
  };
  socket.onopen = () => {
    waiting.forEach((samples) => socket.send(samples));
    waiting = [];
  };
  socket.onmessage = ({ data }) => {
    if (!isOver) show(JSON.parse(data), fail);
  };
  socket.onclose = () => fail("There is no live answer here; the whole recording will be classified.");
  return {
    send(samples) {
      if (isOver) return;
      if (socket.readyState === WebSocket.CONNECTING) waiting.push(samples.slice());
      else if (socket.readyState === WebSocket.OPEN) socket.send(samples);
      const unsent = socket.bufferedAmount / 2 + waiting.reduce((sum, block) => sum + block.length, 0);
      if (unsent > MOST_SECONDS_UNSENT * rate) fail("The connection is too slow for a live answer.");
    },
    close,
  };
}

function clearLive() {
  element("now").textContent = "";
  element("live-turns").replaceChildren();
}

/** @param {Message} message @param {(reason: string) => void} fail */
function show(message, fail) {
  if (message.type === "now") element("now").textContent = nowText(message);
  if (message.type === "segment") addTurn(message);
  if (message.type === "problem") fail(`No live answer: ${message.detail}.`);
}

/** @param {Now} now */
function nowText(now) {
  if (now.pause) return "…";
  const sure = now.label != null && !now.present && now.probability < 1 ? ` ${percent(now.probability)}` : "";
  return `${apart(heard(now))}${sure}`;
}

/** @param {Turn} turn */
function addTurn(turn) {
  const list = element("live-turns");
  const name = heard(turn);
  const item = made("li");
  item.append(made("span", `${clock(turn.start)} – ${clock(turn.end)}`), " ", made("bdi", name));
  list.append(item);
  while (list.children.length > MOST_TURNS) list.firstElementChild.remove();
  say(`${apart(name)}.`);
}
