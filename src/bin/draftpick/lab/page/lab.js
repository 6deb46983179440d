// The state of the page, and what happens when it changes. Numbers come from the library; pictures from draw.js.

import * as draw from "./draw.js";

const $ = (id) => document.getElementById(id);
const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF";
const PRESETS = {
  three: [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 2],
  two: [[0.5, 0.5], [0.75, 0.25], 2],
  far: [[0.9, 0.1], [0.1, 0.9], 4],
  zipf: [[0.38, 0.16, 0.14, 0.1, 0.06, 0.07, 0.04, 0.05], [0.32, 0.22, 0.1, 0.08, 0.1, 0.05, 0.07, 0.06], 4],
  apart: [[0.6, 0.4, 0, 0], [0, 0, 0.5, 0.5], 3],
};

let state = { p: [0.5, 0.3, 0.2], q: [0.2, 0.3, 0.5], k: 2, names: null };
let tally = null;
let answer = null;

const names = () => state.names ?? state.p.map((_, token) => LETTERS[token]);
const list = (law) => law.map((share) => +share.toFixed(6)).join(",");
const query = () => new URLSearchParams({ p: list(state.p), q: list(state.q), k: state.k });

async function ask(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function show(id, svg) {
  const place = $(id);
  const focused = document.activeElement?.dataset?.law ? { ...document.activeElement.dataset } : null;
  let button = place.querySelector("button");
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.textContent = "SVG";
    button.setAttribute("aria-label", `download this picture (${id}) as SVG`);
    button.addEventListener("click", () => download(id));
  }
  place.replaceChildren(svg, button);
  if (focused) place.querySelector(`[data-law="${focused.law}"][data-token="${focused.token}"]`)?.focus();
}

function download(id) {
  const svg = new XMLSerializer().serializeToString($(id).querySelector("svg"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  link.download = `draftpick-${id}.svg`;
  link.click();
  URL.revokeObjectURL(link.href);
}

// One request at a time: while one is on its way, only the newest state waits for the next.
let busy = false, again = false;

async function refresh() {
  show("bars", draw.bars(state.p, state.q, names(), adjust, $("bars").clientWidth < 560));
  $("k").value = state.k;
  $("k-value").textContent = state.k;
  $("k-words").textContent = state.k === 1 ? "1 draft" : `${state.k} drafts`;
  $("tokens").value = state.p.length;
  if (busy) { again = true; return; }
  busy = true;
  try {
    do {
      again = false;
      answer = await ask(`api/problem?${query()}`);
      $("message").textContent = "";
      paint();
    } while (again);
  } catch (error) {
    $("message").textContent = error.message;
  } finally {
    busy = false;
  }
}

function paint() {
  const name = names();
  const { optimum, cut, rules, k } = answer;
  const best = rules.find((rule) => rule.name === "kseq").values[k - 1];
  $("answer").textContent = `A draft can be put out in ${(100 * optimum).toFixed(1)} % of all cases. `
    + (cut.length ? `No rule does better: the set H is ${cut.map((token) => name[token]).join(", ")}. ` : "That is always: nothing is in the way. ")
    + `k-SEQ, the rule of SpecTr, reaches ${(100 * best).toFixed(1)} %.`;
  show("growth", draw.growth(answer));
  show("layout", draw.layout(answer, name, tally?.last));
  show("coupling", draw.coupling(answer, name));
  show("residual", draw.marked(answer.residual, null, name, "The residual law", answer.residual.some((mass) => mass > 0) ? "the residual: what replaces a rejected draft" : "nothing is ever rejected: there is no residual"));
  paintTally();
  $("polytope-section").hidden = !answer.polytope;
  if (answer.polytope) show("polytope", draw.polytope(answer, name));
  const hash = query();
  if (state.names) hash.set("names", JSON.stringify(state.names));
  history.replaceState(null, "", `#${hash}`);
}

function paintTally() {
  const total = tally ? tally.counts.reduce((a, b) => a + b, 0) : 0;
  const shares = tally ? tally.counts.map((count) => count / total) : answer.q.map(() => 0);
  $("drawn").textContent = total
    ? `${total.toLocaleString("en")} drawn, a draft accepted in ${((100 * tally.accepted) / total).toFixed(1)} %. Bars: what came out; black marks: q.`
    : "Nothing drawn yet. Black marks: q.";
  show("histogram", draw.marked(shares, answer.q, names(), "How often each token came out, and the target law", ""));
}

/// Gives a token another share of a law; the others keep their proportions.
function adjust(law, token, wanted) {
  const share = Math.min(1, Math.max(0, wanted));
  const before = state[law], rest = 1 - before[token];
  state[law] = before.map((x, i) => (i === token ? share : rest > 1e-9 ? (x * (1 - share)) / rest : (1 - share) / (before.length - 1)));
  change({});
}

function change(changes) {
  state = { ...state, ...changes };
  tally = null;
  $("last").textContent = "";
  refresh();
}

function resize(count) {
  const fit = (law) => {
    const kept = Array.from({ length: count }, (_, i) => law[i] ?? 0.5 / count);
    const total = kept.reduce((a, b) => a + b, 0);
    return kept.map((x) => (total > 0 ? x / total : 1 / count));
  };
  change({ p: fit(state.p), q: fit(state.q), names: null });
}

async function load(path) {
  try {
    const { names, p, q } = await ask(path);
    change({ names, p, q });
  } catch (error) {
    $("message").textContent = error.message;
  }
}

async function drawMore(draws) {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const asked = query();
  asked.set("rule", state.k === 1 ? "maximal" : $("rule").value);
  asked.set("draws", draws);
  asked.set("seed", seed);
  const before = state;
  try {
    const drawn = await ask(`api/draws?${asked}`);
    if (state !== before) return;
    tally = {
      counts: drawn.counts.map((count, token) => count + (tally?.counts[token] ?? 0)),
      accepted: drawn.accepted + (tally?.accepted ?? 0),
      last: drawn.last,
    };
    const { drafts, draft, output } = drawn.last, name = names();
    $("last").textContent = `Drafts ${drafts.map((token) => name[token]).join(", ")}: `
      + (draft === null ? `all rejected, ${name[output]} put out instead.` : `${name[output]} accepted.`);
    show("layout", draw.layout(answer, name, tally.last));
    paintTally();
  } catch (error) {
    $("message").textContent = error.message;
  }
}

function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  const law = (name) => given.get(name)?.split(",").map(Number);
  const p = law("p"), q = law("q"), k = Number(given.get("k"));
  const fine = (law) => law && law.length >= 2 && law.length <= 32 && law.every((x) => x >= 0);
  if (!fine(p) || !fine(q) || p.length !== q.length || !(k >= 1 && k <= 8)) return;
  let labels = null;
  try { labels = JSON.parse(given.get("names") ?? "null"); } catch { /* A cut-off link: letters will do. */ }
  const known = Array.isArray(labels) && labels.length === p.length && labels.every((label) => typeof label === "string");
  state = { p, q, k, names: known ? labels : null };
}

$("k").addEventListener("input", (event) => change({ k: Number(event.target.value) }));
$("tokens").addEventListener("change", (event) => {
  const count = Math.round(Number(event.target.value));
  if (count >= 2 && count <= 32) resize(count);
});
$("preset").addEventListener("change", (event) => {
  const preset = PRESETS[event.target.value];
  if (preset) change({ p: [...preset[0]], q: [...preset[1]], k: preset[2], names: null });
});
$("row").addEventListener("change", (event) => { if (event.target.value !== "") load(`api/trace?row=${Number(event.target.value)}`); });
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("text").value) load(`api/text?${new URLSearchParams({ text: $("text").value })}`);
});
$("rule").addEventListener("change", () => { tally = null; $("last").textContent = ""; paint(); });
$("draw-one").addEventListener("click", () => drawMore(1));
$("draw-many").addEventListener("click", () => drawMore(1000));
$("draw-none").addEventListener("click", () => { tally = null; $("last").textContent = ""; paint(); });
addEventListener("hashchange", () => { restore(); change({}); });

restore();
refresh();
