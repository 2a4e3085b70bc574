/** @import {Answer, Segment} from "./api.js" */
/** @import {Asked} from "./files.js" */

const CSV_HEADER = "start,end,label,probability,unknown";
const UNKNOWN = "<unknown>";

/** Quote a cell of CSV where it must be (RFC 4180). @param {string} text */
const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** @param {string[][]} rows */
const csv = (rows) => rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");

/** Segments as `label_image.py --timeline` writes them. @param {Segment[]} segments */
export function segmentsCsv(segments) {
  const rows = segments.map(({ start, end, label, unknown, probability }) => {
    const sure = unknown || probability == null ? "" : probability.toFixed(6);
    return [start.toFixed(3), end.toFixed(3), label ?? "", sure, String(unknown)];
  });
  return csv([CSV_HEADER.split(","), ...rows]);
}

/** Encode a field of RTTM, in which blanks separate and `<` is reserved. @param {string} name */
const field = (name) => name.replace(/[\s\u0000-\u001f\u007f%<]/gu, encodeURIComponent);

/** Segments in NIST's Rich Transcription Time Marked format. @param {Segment[]} segments @param {string} name */
export function segmentsRttm(segments, name) {
  const recording = field(stem(name));
  const lines = segments.map(({ start, end, label }) => {
    const times = `${start.toFixed(3)} ${(end - start).toFixed(3)}`;
    return `SPEAKER ${recording} 1 ${times} <NA> <NA> ${label == null ? UNKNOWN : field(label)} <NA> <NA>\n`;
  });
  return lines.join("");
}

/** Segments as a label track of Audacity. @param {Segment[]} segments */
export function segmentsAudacity(segments) {
  const label = (/** @type {?string} */ name) => name?.replace(/[\t\r\n]+/g, " ") ?? UNKNOWN;
  return segments.map((it) => `${it.start.toFixed(6)}\t${it.end.toFixed(6)}\t${label(it.label)}\n`).join("");
}

/** The answers for several files. @param {Asked[]} asked */
export function answersCsv(asked) {
  const rows = asked.map(({ file, answer, problem }) => {
    const best = answer?.labels.find(({ label }) => label === answer.decision);
    const names = answer?.present ? answer.present.join(";") : (answer?.decision ?? "");
    const sure = best ? best.probability.toFixed(6) : "";
    const unknown = answer ? String(answer.unknown) : "";
    return [file.name, names, sure, answer ? answer.score.toFixed(6) : "", unknown, problem?.message ?? ""];
  });
  return csv([["file", "label", "probability", "likeness", "unknown", "problem"], ...rows]);
}

/** @param {string} name */
const stem = (name) => name.replace(/\.[^.]+$/, "");

/** The formats of a timeline. @type {Record<string, {ending: string, write: (answer: Answer, name: string) => string}>} */
export const FORMATS = {
  csv: { ending: ".timeline.csv", write: ({ segments }) => segmentsCsv(segments) },
  rttm: { ending: ".rttm", write: ({ segments }, name) => segmentsRttm(segments, name) },
  audacity: { ending: ".txt", write: ({ segments }) => segmentsAudacity(segments) },
};

/** Have the browser save a text. @param {string} name @param {string} text */
export function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Save an answer's timeline. @param {string} format @param {Answer} answer @param {string} name of the recording */
export function saveTimeline(format, answer, name) {
  const { ending, write } = FORMATS[format];
  save(stem(name) + ending, write(answer, name));
}
