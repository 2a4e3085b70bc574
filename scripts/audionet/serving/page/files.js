import { element, made, state } from "./state.js";
import { headline, howSure, lasting } from "./words.js";

/** @import {Answer, Problem} from "./api.js" */
/** @typedef {{file: File, answer: ?Answer, problem: ?Problem}} Asked */

/**
 * Show the table of several files and their answers. Each with an answer can be shown, but not while others wait, as
 * the page shows one request at a time.
 *
 * @param {(asked: Asked) => void} show
 */
export function writeFiles(show) {
  element("files-part").hidden = !state.files.length;
  element("files-rows").replaceChildren(...state.files.map((asked) => fileRow(asked, show)));
}

/** @param {Asked} asked @param {(asked: Asked) => void} show */
function fileRow(asked, show) {
  const { file, answer, problem } = asked;
  const isWaiting = state.phase === "waiting";
  const row = made("tr");
  const name = made("th");
  name.setAttribute("scope", "row");
  if (answer && !isWaiting) {
    const button = made("button", file.name);
    button.className = "link";
    button.ariaCurrent = String(answer === state.answer);
    button.addEventListener("click", () => show(asked));
    name.append(button);
  } else name.textContent = file.name;
  row.append(name);
  if (answer) {
    row.append(made("td", headline(answer)), made("td", howSure(answer)), made("td", lasting(answer.seconds)));
  } else {
    const said = made("td", problem?.message ?? (isWaiting ? "…" : "Not classified."));
    said.setAttribute("colspan", "3");
    row.append(said);
  }
  for (const text of row.children) text.setAttribute("dir", "auto");
  return row;
}
