import { Problem, evidence } from "./api.js";
import { showNoSpectrogram, showPicture } from "./stage.js";
import { element, say, setNote, state } from "./state.js";
import { sentence } from "./words.js";

/** @import {Asking, Picture} from "./api.js" */

/** @type {?Picture} */
let spectrogram = null;
/** @type {?Picture} fetched once, then kept until the next recording */
let found = null;
/** @type {"spectrogram" | "busy" | "evidence"} */
let shown = "spectrogram";

const TEXTS = { spectrogram: "Show the evidence", busy: "Finding the evidence…", evidence: "Show the spectrogram" };

/** @param {typeof shown} now @param {string} note */
function change(now, note = "") {
  shown = now;
  const button = element("evidence");
  button.textContent = TEXTS[now];
  button.ariaDisabled = String(now === "busy"); // a disabled button would lose the focus
  setNote("evidence-note", note);
}

/** Withdraw the button, and forget the pictures of the last recording. */
export function withdrawEvidence() {
  spectrogram = found = null;
  change("spectrogram");
  element("evidence").hidden = true;
}

/** Offer to show the evidence in place of the spectrogram. @param {?Picture} picture null: there is no spectrogram */
export function offerEvidence(picture) {
  spectrogram = picture;
  element("evidence").hidden = false;
}

/** Show the evidence or, if it is shown, the spectrogram again. @param {Asking} asking */
export async function toggleEvidence(asking) {
  if (shown === "spectrogram") await showEvidence(asking);
  else if (shown === "evidence") await showOnlySpectrogram(asking.signal);
}

/** @param {Asking} asking */
async function showEvidence(asking) {
  change("busy");
  say("Finding the evidence. This takes some seconds.");
  try {
    const got = found ?? (await evidence(/** @type {File} */ (state.file), asking));
    await showPicture(got, `Evidence in ${state.file?.name}: ${got.summary}`, asking.signal);
    if (asking.signal.aborted) return;
    found = got;
    change("evidence", `${sentence(got.summary ?? "")} Orange speaks for it, blue against it.`);
  } catch (error) {
    if (asking.signal.aborted) return;
    const reason = error instanceof Problem ? error.message : "it cannot be drawn here.";
    change("spectrogram", `The evidence is not known: ${reason}`);
  }
  say(element("evidence-note").textContent);
}

/** @param {AbortSignal} signal */
async function showOnlySpectrogram(signal) {
  change("spectrogram");
  say("The spectrogram is shown.");
  if (spectrogram) return showPicture(spectrogram, "", signal);
  element("spectrogram").hidden = true;
  showNoSpectrogram("There is no spectrogram.");
}
