/** @import {Answer, Chunk, Model, Segment} from "./api.js" */
/** @import {Lane} from "./drawing.js" */

/** Speakers with a smaller share of the recording are not mentioned: they may be errors. */
const TURN_SHARE = 0.1;

/** Format a time as `1:02:03`, or as `2:03.5` with a decimal. @param {number} seconds @param {number} decimals */
export function clock(seconds, decimals = 0) {
  const units = Math.round(seconds * 10 ** decimals);
  const whole = Math.floor(units / 10 ** decimals);
  const two = (/** @type {number} */ n) => String(n % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  const part = decimals ? `.${String(units % 10 ** decimals).padStart(decimals, "0")}` : "";
  return (minutes < 60 ? `${minutes}:` : `${Math.floor(minutes / 60)}:${two(minutes)}:`) + two(whole) + part;
}

/** Begin a text with a capital, and end it with a full stop. @param {string} text */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** @param {number} n @param {string} thing */
export const count = (n, thing) => `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;

/** Format a duration. @param {number} seconds */
export function lasting(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  const whole = Math.round(seconds);
  const parts = [[Math.floor(whole / 3600), "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  return parts.filter(([n]) => n).map(([n, unit]) => `${n} ${unit}`).join(" ");
}

/** Format a probability, never as 0 % or 100 %, which no model can know. @param {number} p */
export function percent(p) {
  if (p > 0.9995) return "over 99.9%";
  return p < 0.0005 ? "under 0.1%" : `${(100 * p).toFixed(1)}%`;
}

/** @param {number} score */
export const likeness = (score) => score.toFixed(2);

/** Isolate the direction of a name, so that a right-to-left name stays in its place in a sentence. @param {string} name */
export const apart = (name) => `\u2068${name}\u2069`;

/** @param {string[]} some @param {number} most */
export function names(some, most = 12) {
  const shown = some.slice(0, most).map(apart);
  const rest = some.length - shown.length;
  if (rest) shown.push(`${rest.toLocaleString("en")} more`);
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

/** Describe the confidence of an answer in a sentence. @param {Answer} answer */
export function howSure(answer) {
  if (answer.present) {
    const ranked = answer.labels.filter(({ label }) => answer.present?.includes(label));
    const sure = ranked.map(({ label, probability }) => `${apart(label)} ${percent(probability)}`).join(", ");
    return sure ? `${sure}.` : "None of the labels is probable enough.";
  }
  if (isSeveral(answer)) return `${answer.voices.map(voiceTime).join(", ")}.`;
  if (answer.unknown) {
    return "Not enough like any known label.";
  }
  if (isEnrolled(answer)) return `An enrolled speaker, likeness ${likeness(answer.score)}.`;
  const ranked = answer.labels.find(({ label }) => label === answer.decision);
  const sure = ranked ? `${percent(ranked.probability)} sure.` : "";
  if (ranked === answer.labels[0]) return sure;
  return `${sure} Another label is more probable, but this answer has the least expected cost.`.trim();
}

/** @param {{label: ?string, seconds: number}} voice */
const voiceTime = ({ label, seconds }) => `${label == null ? "unknown" : apart(label)} ${lasting(Math.round(seconds))}`;

/** Number of chunks whose own decision is that for the recording. @param {Answer} answer */
const agreeing = (answer) => answer.per_chunk.filter((chunk) => chunk.decision === answer.decision).length;

/**
 * Whether an answer deserves a check mark: every voice is known, and half of the chunks say so by themselves.
 *
 * @param {Answer} answer
 */
export function isCertain(answer) {
  if (answer.present) return answer.present.length > 0;
  if (isSeveral(answer)) return answer.voices.every(({ label }) => label != null);
  return !answer.unknown && 2 * agreeing(answer) >= answer.per_chunk.length;
}

/** Whether the likeness to one label was decisive, and can be shown on its scale. @param {Answer} answer */
export const hasLikeness = (answer) => !answer.present && !isSeveral(answer) && Number.isFinite(answer.score);

/** Whether several voices, or other sounds, are heard for long enough. @param {Answer} answer */
const isSeveral = (answer) => !answer.present && answer.voices.length > 1;

/** @param {Answer} answer */
const isEnrolled = (answer) => (answer.enrolled ?? []).some(({ name }) => name === answer.decision);

/** Describe the evidence for an answer: its chunks. @param {Answer} answer */
export function basis(answer) {
  const chunks = answer.per_chunk.length;
  const same = agreeing(answer);
  const some = `${same ? same.toLocaleString("en") : "none"} of them ${same > 1 ? "say" : "says"} so`;
  const isOne = !answer.present && !isSeveral(answer);
  const agree = chunks < 2 || !isOne ? "" : `; ${same === chunks ? "all say the same" : some}`;
  const pauses = answer.pauses.length ? `; ${count(answer.pauses.length, "pause")} left out` : "";
  return `${count(answer.chunks, "chunk")}${agree}${pauses}.`;
}

/**
 * Mention the speakers of a recording with several, as the answer is for the whole recording.
 *
 * @param {Lane[]} lanes
 * @param {Answer} answer
 */
export function turns(lanes, answer) {
  if (answer.present || isSeveral(answer)) return "";
  const total = lanes.reduce((sum, { seconds }) => sum + seconds, 0);
  const speakers = lanes.filter(({ seconds }) => seconds >= TURN_SHARE * total).map(({ name }) => name);
  return speakers.length < 2 ? "" : `More than one speaker: ${names(speakers, 4)}. See the timeline below.`;
}

/** Title of the list of labels. @param {Answer} answer */
export function labelsTitle(answer) {
  if (answer.present) return "Probability of each label";
  if (answer.unknown) return "If it were one of these";
  return isEnrolled(answer) ? "Of those trained on" : "Most probable";
}

/** @param {{decision?: ?string, label?: ?string, unknown: boolean, present?: string[]}} said */
export function heard(said) {
  if (said.present) return [...said.present].sort().join(", ") || "None of the labels";
  return said.decision ?? said.label ?? "Unknown";
}

/** The answer in large letters: of several voices, their names. @param {Answer} answer */
export function headline(answer) {
  return isSeveral(answer) ? names(answer.voices.map(({ label }) => label ?? "unknown"), 4) : heard(answer);
}

/** What is wrong with the recording. @param {Answer} answer */
export function remark(answer) {
  if (!answer.remark) return "";
  return answer.remark.startsWith("no speech") ? "No speech was found in it." : `Note: ${answer.remark}.`;
}

/** @param {Segment} segment */
export function segmentSure(segment) {
  if (!segment.unknown && segment.probability != null) return percent(segment.probability);
  return segment.score == null ? "" : `likeness ${likeness(segment.score)}`;
}

/** @param {Chunk} chunk */
export function chunkSure(chunk) {
  if (chunk.present) {
    const ranked = chunk.labels.filter(({ label }) => chunk.present?.includes(label));
    ranked.sort((one, other) => (one.label < other.label ? -1 : 1)); // as `heard` names them
    return ranked.map(({ probability }) => percent(probability)).join(", ");
  }
  const [best] = chunk.labels;
  if (!best) return "";
  const sure = percent(best.probability);
  return best.label === chunk.decision ? sure : `${sure} ${apart(best.label)}`;
}

/** @param {Model} model */
export function limits({ limits = {} }) {
  const size = limits.megabytes && `${limits.megabytes.toLocaleString("en")} MB`;
  const parts = [size, limits.seconds && lasting(limits.seconds)].filter(Boolean);
  return parts.length ? ` Up to ${parts.join(" and ")}.` : "";
}
