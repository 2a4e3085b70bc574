/** @import {Answer, Model} from "./api.js" */
/** @import {Cell, Lane} from "./drawing.js" */

/** @typedef {"start" | "waiting" | "answered" | "failed"} Phase */

/** All that the page knows. */
export const state = {
  /** @type {Phase} */ phase: "start",
  /** @type {?Model} */ model: null,
  /** @type {?File} */ file: null,
  /** @type {?AbortController} the question that is being asked; aborted when another takes its place */ job: null,
  /** What the wait is for. */ waiting: "",
  /** @type {?import("./api.js").Problem} */ problem: null,
  /** What is asked where a key is needed. */ keyText: "",
  /** @type {?Answer} */ answer: null,
  /** @type {Cell[]} */ chunks: [],
  /** @type {Lane[]} */ lanes: [],
  /** How many seconds the spectrogram, and all below it, is wide. */ span: 1,
  /** Where in the recording the cursor is, in seconds. */ time: 0,
  /** @type {"off" | "opening" | "on"} */ microphone: "off",
  /** What to say beside the buttons. */ note: "",
  /** @type {Int16Array<ArrayBuffer>[]} */ blocks: [],
  /** How loud the recording has been at most, 0 to 1. */ loudest: 0,
};

/** The element of a name; the page has all that are asked for. @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** A new element with text in it, which is never taken for HTML. @param {string} tag @param {string} text */
export function made(tag, text = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

/** A line that is there only where it says something. @param {string} id @param {string} text */
export function setNote(id, text) {
  element(id).hidden = !text;
  element(id).textContent = text;
}

/** Tell screen readers. @param {string} text */
export function say(text) {
  element("status").textContent = text;
}
