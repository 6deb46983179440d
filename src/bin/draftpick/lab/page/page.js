// What both pages share: asking the library, pictures with their downloads and tables, waiting.

import { element, show } from "./svg.js";

export const $ = (id) => document.getElementById(id);

/// Writes words into a place. The same words again would have the page laid out anew for nothing.
export function say(id, words) {
  if ($(id).textContent !== String(words)) $(id).textContent = words;
}

/// Asks the library; what it refuses, it says why.
export async function ask(path) {
  let response;
  try {
    // Kept by nobody: an answer is asked for once, and looking for it in a cache takes as long as computing it.
    response = await fetch(path, { cache: "no-store" });
  } catch {
    throw new Error("the program that serves this page does not answer: start it again and reload");
  }
  if (!response.ok) throw new Error((await response.text()) || `refused with status ${response.status}`);
  return response.json();
}

/// Says what is wrong. It stands until the next change, or, if it was an answer that failed, until an answer succeeds.
export function complain(error, until = "change") {
  $("message").textContent = error.message;
  $("message").dataset.until = until;
}

export function wait() {
  complain(new Error("Asking …"), "answer");
}

export function quiet(until) {
  if ($("message").dataset.until !== until) return;
  $("message").textContent = "";
  delete $("message").dataset.until;
}

// The width of each picture's place: reading it while drawing would have the page laid out once more for each picture.
const widths = new Map();

/// Draws at first and whenever a place gets another width.
export function watchWidths(ids, redraw) {
  const observer = new ResizeObserver((entries) => {
    let changed = false;
    for (const { target, contentRect } of entries) {
      const width = Math.max(280, Math.round(contentRect.width));
      if (widths.get(target.id) !== width) changed = true;
      widths.set(target.id, width);
    }
    if (changed) redraw();
  });
  for (const id of ids) {
    widths.set(id, Math.max(280, Math.round($(id).clientWidth) || 460));
    observer.observe($(id));
  }
}

export const widthOf = (id) => widths.get(id) ?? 460;

const open = new Set();
const tables = new Map();

/// Puts a picture into its place, with the buttons that save it and that show its numbers: a function that gives the table's
/// heads and rows, and is called only while the table is open.
export function showPicture(id, svg, numbers) {
  tables.set(id, numbers);
  const isOpen = open.has(id);
  const parts = [svg];
  const buttons = [];
  if (numbers) {
    buttons.push(element("button", {
      type: "button", "aria-expanded": isOpen, "aria-label": `the numbers of this picture (${id}) as a table`,
      onclick: () => { if (!open.delete(id)) open.add(id); showPicture(id, svg, tables.get(id)); },
    }, "table"));
  }
  buttons.push(element("button", {
    type: "button", "data-save": "", "aria-label": `download this picture (${id}) as SVG`, onclick: () => download(id),
  }, "SVG"));
  parts.push(element("div", { class: "tools" }, buttons));
  if (isOpen && numbers) parts.push(table(id, numbers()));
  show($(id), ...parts);
}

function table(id, { head, rows }) {
  const row = (cells, kind) => element("tr", {}, cells.map((cell, i) => element(i === 0 && kind === "td" ? "th" : kind, kind === "td" && i === 0 ? { scope: "row" } : kind === "th" ? { scope: "col" } : {}, String(cell))));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `numbers of ${id}` }, element("table", {}, [
    element("thead", {}, row(head, "th")),
    element("tbody", {}, rows.map((cells) => row(cells, "td"))),
  ]));
}

function download(id) {
  const svg = $(id).querySelector("svg").cloneNode(true);
  // A picture of its own: nothing in it can be moved or reached.
  for (const node of [svg, ...svg.querySelectorAll("*")]) {
    for (const name of ["tabindex", "role", "class"]) node.removeAttribute(name);
  }
  svg.setAttribute("role", "img");
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  link.download = `draftpick-${id}.svg`;
  link.click();
  URL.revokeObjectURL(link.href);
}

/// Asks for the newest state again and again, one request at a time: while one is on its way, only the last of those that
/// come in waits for the next. `path()` says what to ask, `done` what to do with the answer.
export function newest(path, done) {
  let busy = false, again = false;
  return async () => {
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      try {
        const answer = await ask(path());
        if (!again) quiet("answer");
        done(answer);
        // For whoever measures how long it took.
        performance.clearMarks("drawn");
        performance.mark("drawn");
      } catch (error) {
        complain(error, "answer");
      }
    } while (again);
    busy = false;
  };
}

/// Calls `act` once nothing has called for it for so many milliseconds.
export function settled(act, wait = 150) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(act, wait); };
}

/// Gives a token another share of a law; the others keep their proportions.
export function withShare(law, token, wanted) {
  const share = Math.min(1, Math.max(0, wanted)), rest = 1 - law[token];
  return law.map((x, i) => (i === token ? share : rest > 1e-9 ? (x * (1 - share)) / rest : (1 - share) / (law.length - 1)));
}

/// A law of another number of tokens.
export function resized(law, count) {
  const kept = Array.from({ length: count }, (_, i) => law[i] ?? 0.5 / count);
  const total = kept.reduce((a, b) => a + b, 0);
  return kept.map((x) => (total > 0 ? x / total : 1 / count));
}

export const written = (law) => law.map((share) => +share.toFixed(6)).join(",");

/// A law out of a link, or nothing.
export function readLaw(words, least, most) {
  const law = words?.split(",").map(Number);
  const fine = law && law.length >= least && law.length <= most && law.every((x) => x >= 0 && Number.isFinite(x));
  const total = fine ? law.reduce((a, b) => a + b, 0) : 0;
  return total > 0 ? law.map((x) => x / total) : null;
}

/// A whole number out of a link, or nothing.
export function readNumber(words, least, most) {
  const number = Number(words ?? NaN);
  return Number.isInteger(number) && number >= least && number <= most ? number : null;
}

/// The sizes of the draws that led to a histogram: one after the other they have the seeds that follow the link's.
export const readDraws = (words, most) => (words ?? "").split(",").map((size) => readNumber(size, 1, most)).filter(Boolean).slice(0, 40);

export const newSeed = () => Math.floor(Math.random() * 2 ** 31);
