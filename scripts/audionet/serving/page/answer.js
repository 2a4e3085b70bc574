import { voiceColour } from "./stage.js";
import { element, made, setNote, state } from "./state.js";
import { apart, basis, headline, howSure, labelsTitle, lasting, percent, remark, similarity, turns } from "./words.js";

/** @import {Answer} from "./api.js" */

/** Longer names are set in a smaller font. */
const LONG_NAME = 24;

/** Show an answer, except for its timeline. @param {Answer} answer @param {File} file */
export function writeAnswer(answer, file) {
  const long = answer.seconds ? `, ${lasting(answer.seconds)}` : "";
  element("file-name").textContent = apart(file.name) + long;
  element("verdict").classList.toggle("unknown", answer.unknown && answer.voices.length < 2);
  element("decision").textContent = headline(answer);
  element("decision").classList.toggle("long", headline(answer).length > LONG_NAME);
  element("sure").textContent = howSure(answer);
  element("basis").textContent = basis(answer);
  setNote("turns", turns(state.lanes, answer));
  setNote("remark", remark(answer));
  element("labels-title").textContent = labelsTitle(answer);
  element("labels").classList.toggle("unknown-labels", answer.unknown);
  const ranked = answer.labels.map(({ label, probability }) => bar(label, percent(probability), probability));
  element("labels").replaceChildren(...ranked);
  const speakers = answer.enrolled ?? [];
  const enrolled = speakers.map(({ name, score }) => bar(name, `similarity ${similarity(score)}`, score));
  element("enrolled").replaceChildren(...enrolled);
  element("enrolled-part").hidden = !enrolled.length;
}

/** @param {string} name @param {string} value @param {number} share */
function bar(name, value, share) {
  const item = made("li");
  const track = made("span");
  const fill = made("span");
  track.className = "bar";
  fill.className = "fill";
  fill.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  const colour = voiceColour(name);
  if (colour) fill.style.setProperty("--voice", `var(${colour})`);
  track.append(fill);
  item.append(made("bdi", name), made("span", value), track);
  return item;
}
