import { Problem, enrol, forget } from "./api.js";
import { element, made, say, setNote, state } from "./state.js";
import { apart, lasting, sentence } from "./words.js";

/** @import {Answer, Asking} from "./api.js" */

/** Offer to enrol the voice of a recording, where the model can and it has one voice. @param {Answer} answer */
export function offerEnrolment(answer) {
  element("enrol-part").hidden = !state.model?.can_enrol || answer.voices.length > 1;
}

/**
 * Enrol the voice of the recording that is shown.
 *
 * @param {Asking} asking
 * @returns {Promise<string>} what to know of it; empty if it failed, which is written then
 */
export async function enrolVoice(asking) {
  const name = element("enrol-name").value.trim();
  try {
    const got = await enrol(name, /** @type {File} */ (state.file), asking);
    element("enrol-name").value = "";
    element("enrol-part").open = false;
    setNote("enrol-note", "");
    const done = `${apart(got.name)} is enrolled${got.replaced ? " anew" : ""}, from ${lasting(got.seconds)} of sound.`;
    return [done, ...got.advice.map(sentence)].join(" ");
  } catch (error) {
    if (!asking.signal.aborted) complain("enrol-note", error);
    return "";
  }
}

/** List the enrolled speakers, each with a button to forget it. @param {(name: string) => void} onForget */
export function listEnrolled(onForget) {
  const names = state.model?.can_enrol ? (state.model.enrolled ?? []) : [];
  element("speakers-part").hidden = !names.length;
  const items = names.map((name) => {
    const item = made("li");
    const button = made("button", "Forget");
    button.setAttribute("type", "button");
    button.setAttribute("aria-label", `Forget ${name}`);
    button.addEventListener("click", () => onForget(name));
    item.append(made("bdi", name), button);
    return item;
  });
  element("speakers").replaceChildren(...items);
}

/** Forget an enrolled speaker. @param {string} name @param {string} key @returns {Promise<boolean>} done */
export async function forgetVoice(name, key) {
  try {
    await forget(name, key);
    setNote("speakers-note", "");
    say(`${apart(name)} is forgotten.`);
    return true;
  } catch (error) {
    complain("speakers-note", error);
    return false;
  }
}

/** @param {string} id @param {any} error */
function complain(id, error) {
  const text = error instanceof Problem ? error.message : `That did not work (${error.message}).`;
  setNote(id, text);
  say(text);
}
