"use strict";

const collator = new Intl.Collator(undefined, {numeric: true});
const NUMBER = /^[-−]?[\d,]*\.?\d+ ?%?$/;
const EMPTY = ["", "–"];

// Sorts a table by the column whose heading is clicked, downwards at the second click; empty cells stay last.
function sort(table, heads, column) {
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[table.tBodies.length - 1];
  const rows = [...body.rows].map((row) => [row.cells[column].textContent.trim(), row]);
  const full = rows.filter(([text]) => !EMPTY.includes(text));
  const empty = rows.filter(([text]) => EMPTY.includes(text));
  const areNumbers = full.every(([text]) => NUMBER.test(text));
  const number = (text) => parseFloat(text.replaceAll(",", "").replace("−", "-"));
  const compare = areNumbers ? (a, b) => number(a) - number(b) : collator.compare;
  full.sort(([a], [b]) => (down ? -compare(a, b) : compare(a, b)));
  body.append(...[...full, ...empty].map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, heads, column));
    head.append(button);
  }
}

// What is folded is printed all the same.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    folded.classList.add("for-print");
  }
});
addEventListener("afterprint", () => {
  for (const folded of document.querySelectorAll("details.for-print")) {
    folded.open = false;
    folded.classList.remove("for-print");
  }
});
