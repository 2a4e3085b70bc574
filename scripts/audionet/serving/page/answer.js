import { look } from "./stage.js";
import { element, made, setNote, state } from "./state.js";
import { apart, basis, hasLikeness, headline, howSure, isCertain } from "./words.js";
import { labelsTitle, lasting, likeness, percent, remark, turns } from "./words.js";

/** @import {Answer} from "./api.js" */

/** Longer names are set in a smaller font. */
const LONG_NAME = 24;

/** Show an answer, except for its timeline. @param {Answer} answer @param {File} file */
export function writeAnswer(answer, file) {
  const long = answer.seconds ? `, ${lasting(answer.seconds)}` : "";
  element("file-name").textContent = apart(file.name) + long;
  element("verdict").classList.toggle("unknown", answer.unknown && answer.voices.length < 2);
  element("verdict").classList.toggle("doubtful", !isCertain(answer));
  element("decision").textContent = headline(answer);
  element("decision").classList.toggle("long", headline(answer).length > LONG_NAME);
  element("sure").textContent = howSure(answer);
  element("basis").textContent = basis(answer);
  writeLikeness(answer);
  setNote("turns", turns(state.lanes, answer));
  setNote("remark", remark(answer));
  element("labels-title").textContent = labelsTitle(answer);
  element("labels").classList.toggle("unknown-labels", answer.unknown);
  const ranked = answer.labels.map(({ label, probability }) => bar(label, percent(probability), probability));
  element("labels").replaceChildren(...ranked);
  const speakers = answer.enrolled ?? [];
  const enrolled = speakers.map(({ name, score }) => bar(name, `likeness ${likeness(score)}`, score));
  element("enrolled").replaceChildren(...enrolled);
  element("enrolled-part").hidden = !enrolled.length;
}

/** Show the likeness on its scale, with the limit from which it is accepted. @param {Answer} answer */
function writeLikeness(answer) {
  element("likeness").hidden = !hasLikeness(answer);
  if (!hasLikeness(answer)) return;
  const { score, threshold } = answer;
  element("likeness-value").textContent = `Likeness ${likeness(score)}`;
  element("likeness-limit").textContent = threshold == null ? "" : `accepted from ${likeness(threshold)}`;
  element("likeness-fill").style.width = `${percentage(score)}%`;
  element("likeness-mark").hidden = threshold == null;
  element("likeness-mark").style.left = `${percentage(threshold ?? 0)}%`;
}

/** @param {number} share */
const percentage = (share) => 100 * Math.max(0, Math.min(1, share));

/** @param {string} name @param {string} value @param {number} share */
function bar(name, value, share) {
  const item = made("li");
  const track = made("span");
  const fill = made("span");
  track.className = "bar";
  fill.className = "fill";
  fill.style.width = `${percentage(share)}%`;
  const { colour, pattern } = look(name);
  fill.style.setProperty("--voice", `var(${colour})`);
  fill.classList.add(`pattern-${pattern}`);
  track.append(fill);
  item.append(made("bdi", name), made("span", value), track);
  return item;
}
