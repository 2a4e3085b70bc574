/** @import {Answer, Model} from "./api.js" */
/** @import {Cell, Lane} from "./drawing.js" */

/** @typedef {"start" | "waiting" | "answered" | "failed"} Phase */

/** State of the page. */
export const state = {
  /** @type {Phase} */ phase: "start",
  /** @type {?Model} */ model: null,
  /** @type {?File} */ file: null,
  /** @type {?AbortController} the request in progress; aborted by the next one */ job: null,
  /** Text shown while waiting. */ waiting: "",
  /** @type {?import("./api.js").Problem} */ problem: null,
  /** Text of the form that asks for a key. */ keyText: "",
  /** @type {?Answer} */ answer: null,
  /** @type {Cell[]} */ chunks: [],
  /** @type {Lane[]} */ lanes: [],
  /** Duration of the spectrogram and the timeline in seconds. */ span: 1,
  /** Position of the cursor in seconds. */ time: 0,
  /** @type {"off" | "opening" | "on"} */ microphone: "off",
  /** Note below the buttons. */ note: "",
  /** @type {import("./files.js").Asked[]} several files, in order; empty if one was chosen */ files: [],
  /** @type {Int16Array<ArrayBuffer>[]} */ blocks: [],
  /** Peak amplitude of the recording so far, 0 to 1. */ loudest: 0,
};

/** Return the element with an id, which must exist. @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** Create an element with text, which is never parsed as HTML. @param {string} tag @param {string} text */
export function made(tag, text = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

/** Set the text of a note, and hide it if the text is empty. @param {string} id @param {string} text */
export function setNote(id, text) {
  element(id).hidden = !text;
  element(id).textContent = text;
}

/** Announce a text to screen readers. @param {string} text */
export function say(text) {
  element("status").textContent = text;
}
