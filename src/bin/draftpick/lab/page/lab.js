// The page of one token: its state, and what happens when it changes. Numbers come from the library; pictures from draw.js.

import * as draw from "./draw.js";
import {
  $, ask, complain, newSeed, newest, quiet, readDraws, readLaw, readNumber, resized, say, settled, showPicture, wait, watchWidths, widthOf, withShare, written,
} from "./page.js";
import { element, percent, short, show } from "./svg.js";

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF";
const PRESETS = {
  three: [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 2],
  two: [[0.5, 0.5], [0.75, 0.25], 2],
  far: [[0.9, 0.1], [0.1, 0.9], 4],
  zipf: [[0.38, 0.16, 0.14, 0.1, 0.06, 0.07, 0.04, 0.05], [0.32, 0.22, 0.1, 0.08, 0.1, 0.05, 0.07, 0.06], 4],
  apart: [[0.6, 0.4, 0, 0], [0, 0, 0.5, 0.5], 3],
};
const MOST_TOKENS = 32, MOST_DRAFTS = 8, MOST_DRAWS = 100000;
const PICTURES = ["bars", "growth", "cut", "layout", "coupling", "residual", "histogram", "polytope"];

let state = { p: [0.5, 0.3, 0.2], q: [0.2, 0.3, 0.5], k: 2, names: null, rule: "optimal", seed: newSeed(), draws: [] };
let tally = null;
let answer = null;
let rules = null;

const names = () => state.names ?? state.p.map((_, token) => LETTERS[token]);
const query = () => new URLSearchParams({ p: written(state.p), q: written(state.q), k: state.k });

const askProblem = newest(() => `api/problem?${query()}`, (given) => { answer = given; paint(); });
const askRules = settled(async () => {
  try {
    const asked = `api/rules?${query()}`, given = await ask(asked);
    if (asked === `api/rules?${query()}`) { rules = given; paintRules(); }
  } catch { /* What is wrong with the laws is said already. */ }
}, 250);
const saveLink = settled(() => {
  const hash = query();
  if (state.names) hash.set("names", JSON.stringify(state.names));
  if (state.rule !== "optimal") hash.set("rule", state.rule);
  if (state.draws.length) { hash.set("seed", state.seed); hash.set("draws", state.draws.join(",")); }
  history.replaceState(null, "", `#${hash}`);
}, 250);

function paintBars() {
  const numbers = () => ({ head: ["token", "p", "q"], rows: state.p.map((p, i) => [names()[i], short(p), short(state.q[i])]) });
  const title = "The draft law p and the target law q, as bars";
  const marked = answer && answer.p.length === state.p.length ? answer.cut : [];
  showPicture("bars", draw.bars(state.p, state.q, names(), adjust, { width: widthOf("bars"), title, marked }), numbers);
}

// The bars are drawn with the answer: twice, and the browser would be busy with the first picture when the answer is there. But
// they do not wait for an answer that is late.
let late;

function refresh() {
  clearTimeout(late);
  late = setTimeout(paintBars, 40);
  $("k").value = state.k;
  say("k-value", state.k);
  say("k-words", state.k === 1 ? "1 draft" : `${state.k} drafts`);
  if (document.activeElement !== $("tokens")) $("tokens").value = state.p.length;
  $("rule").value = state.rule;
  askProblem();
  askRules();
  saveLink();
}

function paint() {
  clearTimeout(late);
  const name = names();
  if (name.length !== answer.p.length) return paintBars();
  const { optimum, cut, rules: curves, k } = answer;
  const best = curves.find((rule) => rule.name === "kseq").values[k - 1];
  say("answer", `A draft can be put out in ${percent(optimum)} of all cases. `
    + (cut.length ? `No rule does better: the set H is ${cut.map((token) => name[token]).join(", ")}. ` : "That is always: nothing is in the way. ")
    + `k-SEQ, the rule of SpecTr, reaches ${percent(best)}.`);
  paintBars();
  showPicture("growth", draw.growth(answer, widthOf("growth")), () => ({
    head: ["k", "optimum", ...curves.map((rule) => rule.name)],
    rows: answer.ks.map((k, i) => [k, short(answer.growth[i]), ...curves.map((rule) => short(rule.values[i]))]),
  }));
  showPicture("cut", draw.cut(answer, name, widthOf("cut")), () => ({
    head: ["H", "p(H)", "q(H)", "1 + q(H) − p(H)^k"],
    rows: answer.cuts.map(({ token, p, q, value }) => [`+ ${name[token]}`, short(p), short(q), short(value)]),
  }));
  paintLayout();
  showPicture("coupling", draw.coupling(answer, name, widthOf("coupling")), () => ({
    head: ["selected", ...name], rows: answer.joint.map((row, i) => [name[i], ...row.map(short)]),
  }));
  const words = answer.residual.some((mass) => mass > 0) ? "the residual: what replaces a rejected draft" : "nothing is ever rejected: there is no residual";
  showPicture("residual", draw.marked(answer.residual, null, name, `The residual law. ${words}`, words, widthOf("residual")), () => ({
    head: ["token", "residual"], rows: answer.residual.map((mass, i) => [name[i], short(mass)]),
  }));
  paintTally();
  $("polytope-section").hidden = !answer.polytope;
  if (answer.polytope) showPicture("polytope", draw.polytope(answer, name, widthOf("polytope")));
}

function paintLayout() {
  showPicture("layout", draw.layout(answer, names(), tally?.last, widthOf("layout")), () => ({
    head: ["token", "drafted p", "selected m", "target q", "labels"],
    rows: answer.regions.map(({ token, draft, selected, target, segments }) => [names()[token], short(draft), short(selected), short(target),
      segments.map(([lo, hi]) => `${lo.toFixed(3)}–${hi.toFixed(3)}`).join(", ") || "none"]),
  }));
}

function paintRules() {
  const cell = ({ acceptance, error }) => (acceptance === null ? "does not take so many" : `${percent(acceptance)}${error > 0 ? ` ± ${percent(error)}` : ""}`);
  const row = (rule) => element("tr", {}, [element("th", { scope: "row" }, element("code", {}, rule.name)), element("td", {}, cell(rule)), element("td", {}, rule.description)]);
  show($("rules"), element("table", {}, [
    element("caption", {}, `Every rule with ${rules.k === 1 ? "1 draft" : `${rules.k} drafts`}; the optimum is ${percent(rules.optimum)}`),
    element("thead", {}, element("tr", {}, ["rule", "accepts", ""].map((head) => element(head ? "th" : "td", head ? { scope: "col" } : {}, head)))),
    element("tbody", {}, rules.rules.map(row)),
  ]));
}

function paintTally() {
  const total = tally ? tally.counts.reduce((a, b) => a + b, 0) : 0;
  const shares = tally ? tally.counts.map((count) => count / total) : answer.q.map(() => 0);
  const off = shares.reduce((sum, share, i) => sum + Math.abs(share - answer.q[i]), 0) / 2;
  say("drawn", total
    ? `${total.toLocaleString("en")} drawn, a draft accepted in ${percent(tally.accepted / total)}. Bars: what came out; black marks: q. They differ by ${percent(off)} in total variation.`
    : "Nothing drawn yet. Black marks: q.");
  showPicture("histogram", draw.marked(shares, answer.q, names(), "How often each token came out, and the target law", "", widthOf("histogram")), () => ({
    head: ["token", "came out", "share", "q"], rows: answer.q.map((q, i) => [names()[i], tally?.counts[i] ?? 0, short(shares[i]), short(q)]),
  }));
}

function adjust(law, token, wanted) {
  change({ [law]: withShare(state[law], token, wanted) });
}

function forget() {
  tally = null;
  say("last", "");
}

function change(changes) {
  state = { ...state, draws: [], ...changes };
  quiet("change");
  forget();
  refresh();
}

/// Laws from elsewhere; what belongs to a text is shown only for a text.
async function load(path) {
  try {
    wait();
    const { names, p, q, tokens, position } = await ask(path);
    quiet("answer");
    showPositions(tokens, position);
    change({ names, p, q });
  } catch (error) {
    complain(error);
  }
}

const loadText = (position) => {
  const asked = new URLSearchParams({ text: $("text").value });
  if (position) asked.set("position", position);
  load(`api/text?${asked}`);
};

function showPositions(tokens, position) {
  const place = $("positions");
  place.hidden = !tokens;
  if (!tokens) return;
  const button = (token, i) => element("button", {
    type: "button", "aria-pressed": i + 1 === position, "aria-label": `the laws after token ${i + 1}, ${token}`, onclick: () => loadText(i + 1),
  }, token);
  show(place, element("span", {}, "the laws after "), ...tokens.map(button));
}

/// One request of draws; its seed follows from how many there were before.
async function drawOnce(draws) {
  const asked = query();
  asked.set("rule", state.k === 1 && state.rule !== "rrs-wor" ? "maximal" : state.rule);
  asked.set("draws", draws);
  asked.set("seed", state.seed + state.draws.length);
  const before = state;
  const drawn = await ask(`api/draws?${asked}`);
  if (state !== before) return false;
  state = { ...state, draws: [...state.draws, draws] };
  tally = {
    counts: drawn.counts.map((count, token) => count + (tally?.counts[token] ?? 0)),
    accepted: drawn.accepted + (tally?.accepted ?? 0),
    last: drawn.last,
  };
  return true;
}

function paintDrawn() {
  const { drafts, draft, output } = tally.last, name = names();
  say("last", `Drafts ${drafts.map((token) => name[token]).join(", ")}: `
    + (draft === null ? `all rejected, ${name[output]} put out instead.` : `${name[output]} accepted.`));
  if (answer) { paintLayout(); paintTally(); }
  saveLink();
}

let drawing = Promise.resolve();

/// Draws after the draws before have come in: their order decides their seeds.
function drawMore(sizes) {
  drawing = drawing.then(async () => {
    for (const draws of sizes) if (await drawOnce(draws)) paintDrawn();
  }).catch(complain);
}

function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  const p = readLaw(given.get("p"), 2, MOST_TOKENS), q = readLaw(given.get("q"), 2, MOST_TOKENS);
  const k = readNumber(given.get("k"), 1, MOST_DRAFTS);
  if (!location.hash) return [];
  if (!p || !q || p.length !== q.length || !k) {
    complain(new Error("the link is not whole: the laws below are an example"));
    return [];
  }
  let labels = null;
  try { labels = JSON.parse(given.get("names") ?? "null"); } catch { /* A cut-off link: letters will do. */ }
  const known = Array.isArray(labels) && labels.length === p.length && labels.every((label) => typeof label === "string");
  const rule = [...$("rule").options].some((option) => option.value === given.get("rule")) ? given.get("rule") : "optimal";
  const seed = readNumber(given.get("seed"), 0, 2 ** 31) ?? newSeed();
  state = { p, q, k, names: known ? labels : null, rule, seed, draws: [] };
  return readDraws(given.get("draws"), MOST_DRAWS);
}

$("k").addEventListener("input", (event) => change({ k: Number(event.target.value) }));
$("tokens").addEventListener("change", (event) => {
  const count = readNumber(event.target.value, 2, MOST_TOKENS);
  if (!count) return complain(new Error(`${event.target.value || "nothing"} is not a number of tokens from 2 to ${MOST_TOKENS}`));
  showPositions();
  change({ p: resized(state.p, count), q: resized(state.q, count), names: null });
});
$("preset").addEventListener("change", (event) => {
  const preset = PRESETS[event.target.value];
  showPositions();
  if (preset) change({ p: [...preset[0]], q: [...preset[1]], k: preset[2], names: null });
});
$("row").addEventListener("change", (event) => { if (event.target.value !== "") load(`api/trace?row=${encodeURIComponent(event.target.value)}`); });
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  // The enter key in another field means that field, which has said so already.
  if (document.activeElement?.type === "number") return;
  if ($("text").value) loadText();
  else complain(new Error("type a text first"));
});
$("rule").addEventListener("change", (event) => change({ rule: event.target.value }));
$("draw-one").addEventListener("click", () => drawMore([1]));
$("draw-many").addEventListener("click", () => drawMore([1000]));
$("draw-none").addEventListener("click", () => { change({ seed: newSeed() }); });
addEventListener("hashchange", () => { const draws = restore(); forget(); refresh(); drawMore(draws); });

const draws = restore();
watchWidths(PICTURES, () => { if (answer) paint(); else paintBars(); });
refresh();
drawMore(draws);
