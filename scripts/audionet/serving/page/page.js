import { writeAnswer } from "./answer.js";
import { Problem, TRIES, classify, fetchModel, fetchReport, spectrogram } from "./api.js";
import { answersCsv, save, saveTimeline } from "./downloads.js";
import { enrolVoice, forgetVoice, listEnrolled, offerEnrolment } from "./enrolment.js";
import { offerEvidence, toggleEvidence, withdrawEvidence } from "./evidence.js";
import { writeFiles } from "./files.js";
import { openLive } from "./live.js";
import { openMicrophone, wavFile } from "./recorder.js";
import { draw, emptyStage, prepareStage, showNoSpectrogram, showPicture, wireStage } from "./stage.js";
import { element, say, setNote, state } from "./state.js";
import { apart, clock, count, headline, howSure, limits, names } from "./words.js";

/** @import {Answer, Asking} from "./api.js" */
/** @import {Asked} from "./files.js" */
/** @import {Live} from "./live.js" */
/** @import {Block, Recording} from "./recorder.js" */

const KEY = "audionet-key";
/** Recordings are held in memory: ten minutes take 58 MB. */
const MOST_SECONDS = 600;
const LOUD = 0.99;
const QUIET = 0.003; // -50 dB: a room in which nobody speaks
const QUIET_SECONDS = 3;
/** Not every browser reports that a dragged file has left the window; all repeat dragover while it is inside. */
const DRAG_MILLISECONDS = 500;

/** Change the state and update the page. @param {Partial<typeof state>} part */
function change(part) {
  Object.assign(state, part);
  const { phase, problem, answer, file } = state;
  const focused = document.activeElement;
  if (phase !== document.body.dataset.phase) writeFiles(showAsked);
  document.body.dataset.phase = phase;
  element("waiting").hidden = phase !== "waiting";
  element("outcome").setAttribute("aria-busy", String(phase === "waiting"));
  element("waiting-text").textContent = state.waiting;
  element("problem").hidden = phase !== "failed";
  element("problem-text").textContent = problem?.message ?? "";
  element("again").hidden = !problem?.again || !file;
  element("answer").hidden = phase !== "answered";
  element("key-form").hidden = !state.keyText;
  element("key-text").textContent = state.keyText;
  element("offer").hidden = state.microphone === "on";
  element("recorder").hidden = state.microphone !== "on";
  element("record").disabled = state.microphone === "opening";
  element("record-text").textContent = state.microphone === "opening" ? "Waiting for the microphone…" : "Record";
  setNote("note", state.note);
  document.title = answer && file ? `${headline(answer)} – ${file.name} – AudioNet` : "AudioNet";
  if (focused && focused !== document.body && !(/** @type {HTMLElement} */ (focused).offsetParent)) refocus();
}

/** Move the keyboard focus when its element has disappeared. */
function refocus() {
  const places = ["key", "stop", "cancel", "decision", "problem-title", "choose"];
  places.map(element).find((place) => place.offsetParent)?.focus();
}

/** Store or read the API key for as long as the tab is open; a browser may forbid storage. @param {string} [key] */
function storedKey(key) {
  try {
    if (key !== undefined) sessionStorage.setItem(KEY, key);
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return key ?? "";
  }
}

async function loadModel() {
  try {
    const model = (state.model = await fetchModel(storedKey()));
    listEnrolled((name) => void forgetSpeaker(name));
    element("report-part").hidden = !model.report;
    const voices = [...model.labels, ...(model.enrolled ?? [])];
    element("limits").textContent = `Any audio format.${limits(model)}`;
    setNote("known", voices.length ? `Known: ${names(voices)}.` : "");
    const labels = count(model.labels.length, "label");
    element("model").textContent = `Model ${model.id.slice(0, 8)}, ${labels}.`;
  } catch (error) {
    if (error.status === 401) askForKey();
    else element("model").textContent = "The model is not known.";
  }
}

/** @param {string} name */
async function forgetSpeaker(name) {
  if (await forgetVoice(name, storedKey())) await loadModel();
}

/** Enrol the voice of the recording that is shown, and classify it again. @param {SubmitEvent} event */
async function onEnrol(event) {
  event.preventDefault();
  const { file, job } = state;
  if (!file || !job) return;
  const done = await enrolVoice({ key: storedKey(), signal: job.signal, onBusy });
  if (!done) return;
  await loadModel();
  if (!job.signal.aborted) await askAgain(file); // else the user has gone on
  change({ note: done });
  say(done);
}

/** Save the report where a key is needed, which a link cannot send; without one, the link opens it. @param {Event} event */
async function onReport(event) {
  if (!storedKey()) return;
  event.preventDefault();
  try {
    save("report.html", await fetchReport(storedKey()));
  } catch (error) {
    change({ note: problemFor(error).message });
  }
}

function askForKey() {
  const refused = "This key was refused. Check it, and try again.";
  change({ keyText: storedKey() ? refused : "This server needs an API key. Ask its operator for one." });
  say(state.keyText);
  element("key").focus();
}

/** Begin a request, and abort any in progress. @param {File} file @param {string} waiting @returns {Asking} */
function begin(file, waiting) {
  state.job?.abort();
  closeMicrophone();
  emptyStage();
  withdrawEvidence();
  const job = new AbortController();
  change({ phase: "waiting", job, file, answer: null, problem: null, note: "", waiting });
  say(state.waiting);
  return { key: storedKey(), signal: job.signal, onBusy };
}

/** Classify a file. @param {File} file */
async function ask(file) {
  const asking = begin(file, `Listening to ${apart(file.name)}…`);
  state.files = [];
  writeFiles(showAsked);
  try {
    refuseTooLarge(file);
    const answer = await classify(file, asking);
    if (asking.signal.aborted) return;
    showAnswer(answer, file);
    await addSpectrogram(file, asking);
  } catch (error) {
    if (!asking.signal.aborted) fail(error);
  }
}

/** Classify several files, one after the other, and show the first that has an answer. @param {File[]} files */
async function askAll(files) {
  const asking = begin(files[0], "");
  state.files = files.map((file) => ({ file, answer: null, problem: null }));
  for (const [i, asked] of state.files.entries()) {
    writeFiles(showAsked);
    change({ waiting: `Listening to ${apart(asked.file.name)}, ${i + 1} of ${files.length}…` });
    try {
      refuseTooLarge(asked.file);
      asked.answer = await classify(asked.file, asking);
    } catch (error) {
      if (asking.signal.aborted) return;
      if (error.status === 401) return fail(error);
      asked.problem = problemFor(error);
    }
    if (asking.signal.aborted) return;
  }
  const answered = state.files.find(({ answer }) => answer);
  say(`${count(state.files.filter(({ answer }) => answer).length, "file")} of ${files.length} have an answer.`);
  if (answered) await showAsked(answered);
  else fail(state.files[0].problem);
  element("files-title").focus();
}

/** Classify a file again, or all of several. @param {File} file */
const askAgain = (file) => (state.files.length ? askAll(state.files.map((asked) => asked.file)) : ask(file));

/** Show the stored answer for one of several files. @param {Asked} asked */
async function showAsked({ file, answer }) {
  if (!answer) return;
  const asking = begin(file, "");
  showAnswer(answer, file);
  await addSpectrogram(file, asking);
}

/** @param {number} seconds @param {number} attempt */
function onBusy(seconds, attempt) {
  if (state.phase !== "waiting") return;
  change({ waiting: `The server is busy. Trying again in ${Math.round(seconds)} s (${attempt} of ${TRIES}).` });
  say(state.waiting);
}

/** Refuse a file that exceeds the server's limit, before a long upload. @param {File} file */
function refuseTooLarge(file) {
  const most = state.model?.limits?.megabytes;
  if (most && file.size > most * 1e6) {
    const size = Math.round(file.size / 1e6).toLocaleString("en");
    throw new Problem(`${file.name} has ${size} MB. This server takes up to ${most} MB.`);
  }
}

/** @param {File} file @param {import("./api.js").Asking} asking */
async function addSpectrogram(file, asking) {
  let picture = null;
  try {
    const got = await spectrogram(file, asking);
    await showPicture(got, "", asking.signal);
    picture = got;
  } catch (error) {
    const reason = error instanceof Problem ? error.message : "it cannot be drawn here.";
    if (!asking.signal.aborted) showNoSpectrogram(`There is no spectrogram: ${reason}`);
  }
  if (!asking.signal.aborted) offerEvidence(picture);
}

/** @param {any} error */
const problemFor = (error) =>
  error instanceof Problem ? error : new Problem(`The answer cannot be shown (${error.message}).`);

/** @param {any} error */
function fail(error) {
  if (error.status === 401) {
    change({ phase: "start" });
    return askForKey();
  }
  const problem = problemFor(error);
  change({ phase: "failed", problem });
  say(problem.message);
  element("problem").scrollIntoView({ block: "nearest" });
}

/** @param {Answer} answer @param {File} file */
function showAnswer(answer, file) {
  prepareStage(answer, file);
  writeAnswer(answer, file);
  offerEnrolment(answer);
  change({ phase: "answered", answer, keyText: "" });
  draw();
  say(`${headline(answer)}. ${howSure(answer)}`);
  element("verdict").scrollIntoView({ block: "nearest" });
}

function cancel() {
  state.job?.abort();
  change({ phase: "start", job: null, file: null });
  say("Cancelled.");
}

/** @type {?Recording} */
let recording = null;
/** @type {?Live} the answers while it is recorded */
let live = null;

async function record() {
  state.job?.abort();
  const job = new AbortController();
  emptyStage();
  change({ phase: "start", job, answer: null, file: null, microphone: "opening", note: "", blocks: [], loudest: 0 });
  try {
    const opened = await openMicrophone(onBlock, finishRecording);
    if (job.signal.aborted) return opened.stop(); // another file was chosen while the browser asked for permission
    recording = opened;
    live = openLive(storedKey(), opened.rate);
    element("longest").textContent = clock(longest());
    element("level-note").textContent = "";
    change({ microphone: "on" });
    say("Recording.");
    refocus();
  } catch (error) {
    if (job.signal.aborted) return;
    change({ microphone: "off", note: error.message });
    say(error.message);
    element("choose").focus();
  }
}

/** Return the maximum recording time in seconds, as memory and the server allow. */
function longest() {
  const { megabytes = Infinity, seconds = Infinity } = state.model?.limits ?? {};
  return Math.floor(Math.min(MOST_SECONDS, seconds, (megabytes * 1e6 - 44) / 2 / (recording?.rate ?? 48000)));
}

const recordedSeconds = () => state.blocks.reduce((sum, block) => sum + block.length, 0) / (recording?.rate ?? 48000);

/** @param {Block} block */
function onBlock({ samples, rms, peak }) {
  if (!recording) return;
  state.blocks.push(samples);
  live?.send(samples);
  state.loudest = Math.max(state.loudest, peak);
  const seconds = recordedSeconds();
  const whole = Math.floor(seconds);
  const isNew = clock(whole) !== element("elapsed").textContent;
  element("elapsed").textContent = clock(whole);
  element("level").style.width = `${meterPlace(rms)}%`;
  element("peak").style.left = `${Math.min(99, meterPlace(peak))}%`;
  if (isNew) showLevel(rms, seconds);
  if (seconds >= longest()) finishRecording();
}

/** Update the level once a second: screen readers could not follow more often. @param {number} rms @param {number} seconds */
function showLevel(rms, seconds) {
  const level = Math.max(-60, Math.round(decibels(rms)));
  element("meter").ariaValueNow = String(level);
  element("meter").ariaValueText = `${level} decibels`;
  const quiet = seconds >= QUIET_SECONDS && state.loudest < QUIET;
  let note = quiet ? "The signal is very quiet. Is it the right microphone?" : "";
  if (state.loudest >= LOUD) note = "Too loud: move away from the microphone.";
  if (note !== element("level-note").textContent) {
    element("level-note").textContent = note;
    if (note) say(note);
  }
}

/** @param {number} amplitude */
const decibels = (amplitude) => 20 * Math.log10(Math.max(amplitude, 1e-6));

/** Convert an amplitude to a percentage of the meter's width, which is 60 dB. @param {number} amplitude */
const meterPlace = (amplitude) => Math.max(0, Math.min(100, 100 + (100 / 60) * decibels(amplitude)));

/** Release the microphone. */
function closeMicrophone() {
  recording?.stop();
  live?.close();
  recording = live = null;
  Object.assign(state, { microphone: "off", blocks: [] });
}

function finishRecording() {
  if (!recording) return;
  const { blocks } = state;
  if (blocks.length) void ask(wavFile(blocks, recording.rate));
  else discard("Nothing was recorded.");
}

/** @param {string} note */
function discard(note) {
  closeMicrophone();
  change({ note });
}

/** @param {DragEvent} event */
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

let dragging = 0;

/** @param {DragEvent} event */
function onDrag(event) {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.toggleAttribute("data-dragging", true);
  clearTimeout(dragging);
  dragging = setTimeout(() => document.body.removeAttribute("data-dragging"), DRAG_MILLISECONDS);
}

/** @param {DragEvent} event */
function onDrop(event) {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.removeAttribute("data-dragging");
  const [item] = event.dataTransfer?.items ?? [];
  if (item?.webkitGetAsEntry?.()?.isDirectory) return change({ note: "That is a folder. Drop the recordings in it." });
  take(event.dataTransfer?.files);
}

/** @param {FileList | null | undefined} files */
function take(files) {
  if (files?.length === 1) void ask(files[0]);
  else if (files?.length) void askAll([...files]);
}

/** @param {SubmitEvent} event */
async function onKeySubmit(event) {
  event.preventDefault();
  storedKey(element("key").value);
  element("key").value = "";
  change({ keyText: "" });
  await loadModel();
  if (!state.keyText && state.file) await askAgain(state.file);
}

wireStage();
const file = element("file");
element("choose").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  take(file.files);
  file.value = ""; // so that the same file can be chosen again
});
element("record").addEventListener("click", record);
element("stop").addEventListener("click", finishRecording);
element("discard").addEventListener("click", () => discard(""));
element("cancel").addEventListener("click", cancel);
element("again").addEventListener("click", () => state.file && askAgain(state.file));
element("evidence").addEventListener("click", () => {
  if (state.job) void toggleEvidence({ key: storedKey(), signal: state.job.signal, onBusy });
});
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => {
    const { answer, file } = state;
    if (answer && file) saveTimeline(/** @type {HTMLElement} */ (button).dataset.format ?? "csv", answer, file.name);
  });
}
element("save-answers").addEventListener("click", () => save("answers.csv", answersCsv(state.files)));
element("enrol").addEventListener("submit", onEnrol);
element("report").addEventListener("click", onReport);
element("key-form").addEventListener("submit", onKeySubmit);
addEventListener("dragenter", onDrag);
addEventListener("dragover", onDrag);
addEventListener("drop", onDrop);
change({});
void loadModel();
