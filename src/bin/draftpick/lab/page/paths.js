// The page of whole paths: its state, and what happens when it changes. Numbers come from the library; pictures from draw.js
// and tree.js.

import { bars, marked } from "./draw.js";
import {
  $, ask, complain, newSeed, newest, quiet, readDraws, readLaw, readNumber, resized, say, settled, showPicture, wait, watchWidths, widthOf, withShare, written,
} from "./page.js";
import { A, element, percent, short, show } from "./svg.js";
import * as draw from "./tree.js";

const LETTERS = "abcd";
// The laws at the start and after each token.
const PRESETS = {
  mild: { p: [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.2, 0.3, 0.5]], q: [[0.2, 0.3, 0.5], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5], [0.5, 0.3, 0.2]], paths: 2, length: 2 },
  late: { p: [[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]], q: [[0.5, 0.5], [0.1, 0.9], [0.9, 0.1]], paths: 2, length: 3 },
  sure: { p: [[0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], q: [[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.15, 0.7, 0.15], [0.05, 0.15, 0.8]], paths: 3, length: 3 },
  single: { p: [[0.6, 0.4], [0.7, 0.3], [0.5, 0.5]], q: [[0.3, 0.7], [0.4, 0.6], [0.8, 0.2]], paths: 1, length: 3 },
  apart: { p: [[0.6, 0.4, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [1, 0, 0]], q: [[0, 0.3, 0.7], [0, 0.5, 0.5], [0, 0.4, 0.6], [0, 0.5, 0.5]], paths: 3, length: 2 },
};
const MOST_TOKENS = 4, MOST_PATHS = 4, MOST_LENGTH = 3, MOST_TEXT_LENGTH = 5, MOST_DRAWS = 10000;
const PICTURES = ["laws", "tree", "strip", "shares", "masses", "outputs", "lengths"];

const fresh = () => ({ source: "chain", ...structuredClone(PRESETS.mild), row: 0, text: "", seed: newSeed(), draws: [], verifier: "spread", step: 0, node: null });
let state = fresh();
let answer = null, steps = [], tally = null, expected = null;

const isChain = () => state.source === "chain";
const laws = (rows) => rows.map(written).join(";");
const chain = () => ({ p: laws(state.p), q: laws(state.q), paths: state.paths, length: state.length });
/// The seed of the round that is shown: the last one drawn, or the first that will be.
const shownSeed = () => state.seed + Math.max(0, state.draws.length - 1);

function roundPath() {
  const seed = shownSeed();
  if (state.source === "recorded") return `api/paths/recorded?${new URLSearchParams({ row: state.row, paths: state.paths, seed })}`;
  if (state.source === "text") return `api/paths/text?${new URLSearchParams({ text: state.text, paths: state.paths, length: state.length, seed })}`;
  return `api/paths/round?${new URLSearchParams({ ...chain(), seed })}`;
}

const askRound = newest(roundPath, (given) => { answer = given; paintRound(); });
const askLengths = settled(async () => {
  if (!isChain()) return;
  try {
    const asked = `api/paths/lengths?${new URLSearchParams(chain())}`, given = await ask(asked);
    if (isChain() && asked === `api/paths/lengths?${new URLSearchParams(chain())}`) { expected = given; paintLengths(); }
  } catch { /* What is wrong with the chain is said already. */ }
}, 120);
const saveLink = settled(() => {
  const hash = new URLSearchParams();
  if (state.source === "recorded") hash.set("recorded", state.row);
  else if (state.source === "text") hash.set("text", state.text);
  else for (const [key, value] of Object.entries({ p: laws(state.p), q: laws(state.q) })) hash.set(key, value);
  for (const key of ["paths", "length", "seed", "step", "verifier"]) hash.set(key, state[key]);
  if (state.node !== null) hash.set("node", state.node);
  if (state.draws.length) hash.set("draws", state.draws.join(","));
  history.replaceState(null, "", `#${hash}`);
}, 250);

// The two models.

const after = (row) => (row === 0 ? "at the start" : `after ${LETTERS[row - 1]}`);

function paintLaws() {
  const place = $("laws");
  place.hidden = !isChain();
  if (!isChain()) return;
  if (place.childElementCount !== state.p.length) {
    place.replaceChildren(...state.p.map((_, row) => Object.assign(document.createElement("div"), { id: `law-${row}`, className: "picture" })));
  }
  const columns = Math.max(1, Math.min(state.p.length, Math.floor((widthOf("laws") + 16) / 246)));
  const width = (widthOf("laws") - 16 * (columns - 1)) / columns;
  place.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  const names = [...LETTERS].slice(0, state.p[0].length);
  state.p.forEach((p, row) => {
    const svg = bars(p, state.q[row], names, (law, token, share) => adjust(law, row, token, share), { width, height: 150, title: after(row), row: after(row), plain: true });
    showPicture(`law-${row}`, svg, () => ({ head: ["token", "p", "q"], rows: names.map((name, i) => [name, short(p[i]), short(state.q[row][i])]) }));
  });
}

function adjust(law, row, token, wanted) {
  change({ [law]: state[law].map((shares, i) => (i === row ? withShare(shares, token, wanted) : shares)) });
}

// The round, step by step.

/// What can be told of a round, one thing after the other.
function tell({ nodes, labels, winner, leaves, tosses, next, output, paths, length }) {
  const name = (at) => (at === 0 ? "the start" : nodes[at].name);
  const token = (parent, child) => nodes[parent].tokens.find(({ node }) => node === child);
  const winning = draw.way({ nodes }, leaves[winner]);
  const told = [];
  const many = paths > 1;
  told.push({
    seen: { labels: false, winner: false, weighed: 0, at: 0 },
    words: `${many ? `${paths} paths` : "One path"} of ${length} ${length === 1 ? "token was" : "tokens were"} drafted, each token drawn from p. ${many ? "Where paths agree they share a node." : ""}`,
  });
  told.push({
    seen: { labels: true, winner: false, weighed: 0, at: 0 },
    words: many
      ? "Every path draws a label from the label law of its last node. The next tokens of a node share out the labels of the node, so that the labels of the paths are uniform on [0, 1] and independent, whatever the shares are."
      : "The path draws a label. With one path it does not matter which.",
    line: labels.map((label, path) => `path ${path + 1}: ${label.toFixed(3)}`).join("   "),
  });
  told.push({
    seen: { labels: true, winner: true, weighed: 0, at: 0 },
    words: many
      ? `The largest label wins: path ${winner + 1}. Tokens that own high labels win more often than they are drafted, and how often is known exactly: that is the winner's own law a, and from here on it takes the place of p.`
      : "The only path wins, and its own law a is p.",
    line: many ? `largest: ${labels[winner].toFixed(3)}` : "",
  });
  winning.slice(1).forEach((child, i) => {
    const parent = winning[i], before = nodes[parent].weight, { selected, target, name: y } = token(parent, child);
    const full = nodes[child].weight >= 1;
    told.push({
      seen: { labels: true, winner: true, weighed: i + 1, at: parent },
      words: `The winner goes on with ${y}. Winners do that with probability a = ${short(selected)}; the target wants it with q = ${short(target)}${i > 0 ? `, and the way to here is good for P = ${short(before)}` : ""}. `
        + (full ? "It is wanted at least as often as it comes: keeping it is free." : "It comes more often than it is wanted: it can be kept only so often."),
      line: `P = min(1, P·q/a) = min(1, ${short(before)} · ${short(target)} / ${short(selected)}) = ${short(nodes[child].weight)}`,
    });
  });
  const given = [];
  for (const { node, keep, coin, kept } of tosses) {
    const { weight, residual } = nodes[node];
    const leaf = residual === null;
    given.push(node);
    told.push({
      seen: { labels: true, winner: true, weighed: winning.length, at: node, rest: !leaf, given: kept ? given.slice(0, -1) : given.slice() , kept: kept ? node : null },
      words: (leaf ? "Now from the end back to the start. The whole path is kept with probability h = P. "
        : `Keep the tokens up to ${name(node)}? What is left of the target here, P·q beyond a, adds up to S; keeping with h = S/(S + 1 − P) makes up for exactly what was given up below. `)
        + (kept ? `The coin is below h: ${nodes[node].depth === 0 ? "no draft is kept, and the next token comes from what is left" : `kept, ${nodes[node].depth} ${nodes[node].depth === 1 ? "token" : "tokens"} of the draft`}.` : "The coin is not below h: given up, one token back."),
      line: (leaf ? `h = P = ${short(keep)}` : `S = ${short(residual)}, P = ${short(weight)}, h = ${short(keep)}`) + `,  coin ${coin.toFixed(3)} ${kept ? "<" : "≥"} ${short(keep)}`,
    });
  }
  const end = tosses[tosses.length - 1].node, leaf = nodes[end].residual === null;
  told.push({
    seen: { labels: true, winner: true, weighed: winning.length, at: end, rest: !leaf, given: given.slice(0, -1), kept: end },
    words: next === null ? "The text ends here."
      : `One token more comes out for free: ${next}, drawn from ${leaf ? "the target's law after the whole path" : "what is left of the target at this node"}. The output has exactly the target's law.`,
    line: `output: ${output.join(" ")}`,
  });
  return told;
}

function paintRound() {
  steps = tell(answer);
  state.step = Math.min(state.step, steps.length - 1);
  if (state.node !== null && state.node >= answer.nodes.length) state.node = null;
  say("rows-note", answer.rows ? `There are ${answer.rows} recorded rounds, 0 to ${answer.rows - 1}.` : "");
  paintStep();
  paintLengths();
}

function paintStep() {
  if (!answer) return;
  const { seen, words, line = "" } = steps[state.step];
  const at = state.node ?? seen.at, node = answer.nodes[at];
  const shown = { ...seen, at, given: new Set(seen.given ?? []), kept: seen.kept ?? null };
  say("step-number", `step ${state.step + 1} of ${steps.length}`);
  say("sentence", words);
  say("line", line);
  for (const [id, off] of [["first", state.step === 0], ["back", state.step === 0], ["forward", state.step === steps.length - 1], ["last", state.step === steps.length - 1]]) {
    // A button that is switched off while it has the focus would lose it.
    $(id).setAttribute("aria-disabled", off);
  }
  showPicture("tree", draw.tree(answer, shown, pick, widthOf("tree")), () => ({
    head: ["node", "paths", "P", "S", "h"],
    rows: answer.nodes.map(({ name, depth, paths, weight, residual, keep }) => [depth === 0 ? "start" : `${"· ".repeat(depth - 1)}${name}`, paths.map((path) => path + 1).join(", "), short(weight), residual === null ? "–" : short(residual), short(keep)]),
  }));
  $("strip").hidden = !seen.labels;
  if (seen.labels) showPicture("strip", draw.strip(answer, seen.winner, widthOf("strip")));
  const inner = node.residual !== null;
  say("node-title", `Looked at: ${at === 0 ? "the start" : `${draw.way(answer, at).slice(1).map((at) => answer.nodes[at].name).join(" ")}`}${state.node === null ? "" : " (chosen; a step back or forward goes on)"}`);
  $("shares").hidden = !inner;
  if (inner) showPicture("shares", draw.shares(node, answer.paths, widthOf("shares")), () => ({
    head: ["token", "labels: share of its own law on each stretch"],
    rows: node.tokens.filter(({ label }) => label?.length).map(({ name, label }) => [name, label.map(({ lo, hi, share }) => `${lo.toFixed(3)}–${hi.toFixed(3)}: ${percent(share)}`).join(", ")]),
  }));
  showPicture("masses", draw.masses(node, seen.rest ?? false, widthOf("masses")), () => ({
    head: ["token", "p", "a", "q", "P·q", "next token if kept here"],
    rows: node.tokens.map(({ name, draft, selected, target, wanted, next }) => [name, draft === null ? "–" : short(draft), selected === null ? "–" : short(selected), short(target), short(wanted), short(next)]),
  }));
}

function pick(node) {
  state.node = state.node === node ? null : node;
  paintStep();
  saveLink();
}

function go(step) {
  if (!steps.length) return;
  state.step = Math.min(steps.length - 1, Math.max(0, step));
  state.node = null;
  paintStep();
  saveLink();
}

// What comes out, and how much is kept.

const MOST_BARS = () => (widthOf("outputs") < 500 ? 12 : 27);

function paintOutputs() {
  $("outputs-section").hidden = !isChain();
  if (!isChain() || !tally) return;
  const { counts, target, kept } = tally, total = counts.reduce((a, b) => a + b, 0);
  const vocab = state.p[0].length;
  const name = (place) => Array.from({ length: state.length + 1 }, (_, i) => LETTERS[Math.floor(place / vocab ** (state.length - i)) % vocab]).join("");
  const order = target.map((_, place) => place).sort((a, b) => target[b] - target[a]);
  const shown = order.slice(0, MOST_BARS()).sort((a, b) => a - b);
  const share = (place) => (total ? counts[place] / total : 0);
  const off = target.reduce((sum, q, place) => sum + Math.abs(share(place) - q), 0) / 2;
  const length = kept.reduce((sum, times, length) => sum + times * length, 0) / (total || 1);
  const some = shown.length < target.length ? ` The likeliest ${shown.length} of ${target.length} texts are shown.` : "";
  say("drawn", (total
    ? `${total.toLocaleString("en")} drawn with ${state.verifier}, ${length.toFixed(3)} drafted tokens kept on average. Bars: texts of ${state.length + 1} tokens that came out; black marks: the target's law. They differ by ${percent(off)} in total variation.`
    : "Nothing drawn yet. Black marks: the target's law of the texts.") + some);
  const words = `How often each text of ${state.length + 1} tokens came out, and the target's law`;
  showPicture("outputs", marked(shown.map(share), shown.map((place) => target[place]), shown.map(name), words, "", widthOf("outputs"), () => A), () => ({
    head: ["text", "came out", "share", "target"], rows: counts.map((count, place) => [name(place), count, short(share(place)), short(target[place])]),
  }));
}

function paintLengths() {
  if (!answer) return;
  const here = isChain() ? expected : null;
  if (isChain() && (!here || here.verifiers.length !== answer.verifiers.length)) return;
  const rows = here ? here.verifiers.map(({ name, expected }) => ({ name, value: expected })) : answer.verifiers.map(({ name, accepted }) => ({ name, value: accepted }));
  say("lengths-words", here
    ? "On average over everything that can be drafted. " + (here.optimum === null ? "The linear program for the most that any lossless verifier can keep is too large to solve here." : "The line is the most that any lossless verifier can keep, by a linear program.")
    : "On average over the coins, for exactly these drafts. Another verifier may be better on some drafts and worse on others.");
  showPicture("lengths", draw.lengths(rows, here?.optimum ?? null, answer.length, widthOf("lengths")), () => ({
    head: ["verifier", ...(here ? ["expected"] : []), "for these drafts"],
    rows: rows.map(({ name, value }, i) => [name, ...(here ? [value.toFixed(4)] : []), answer.verifiers[i].accepted.toFixed(4)]),
  }));
}

async function emptyTally() {
  if (!isChain()) return paintOutputs();
  // The target's law comes with every draw: one is asked for and not counted.
  try {
    const asked = new URLSearchParams({ ...chain(), verifier: "spread", draws: 1, seed: 0 });
    const given = await ask(`api/paths/draws?${asked}`);
    if (tally || asked.toString() !== new URLSearchParams({ ...chain(), verifier: "spread", draws: 1, seed: 0 }).toString()) return;
    tally = { target: given.target, counts: given.counts.map(() => 0), kept: given.kept.map(() => 0) };
    paintOutputs();
  } catch { /* What is wrong with the chain is said already. */ }
}
const askTarget = settled(emptyTally, 60);

async function drawOnce(draws) {
  const asked = new URLSearchParams({ ...chain(), verifier: state.verifier, draws, seed: state.seed + state.draws.length });
  const before = state.draws;
  const given = await ask(`api/paths/draws?${asked}`);
  if (state.draws !== before) return;
  const add = (old, more) => more.map((count, i) => count + (old?.[i] ?? 0));
  tally = { target: given.target, counts: add(tally?.counts, given.counts), kept: add(tally?.kept, given.kept) };
  state.draws = [...state.draws, draws];
}

let drawing = Promise.resolve();

function drawMore(sizes) {
  drawing = drawing.then(async () => {
    for (const draws of sizes) await drawOnce(draws);
    if (!sizes.length) return;
    paintOutputs();
    askRound();
    saveLink();
  }).catch(complain);
}

// State.

function showControls() {
  $("paths").value = state.paths;
  say("paths-value", state.paths);
  $("length").value = state.length;
  $("length").max = state.source === "text" ? MOST_TEXT_LENGTH : MOST_LENGTH;
  $("length").disabled = state.source === "recorded";
  say("length-value", state.source === "recorded" ? 5 : state.length);
  $("tokens").disabled = !isChain();
  if (document.activeElement !== $("tokens")) $("tokens").value = state.p[0].length;
  $("redraw").hidden = isChain();
  const choice = $("verifier"), wanted = ["spread", "path", "traversal", ...(state.paths === 1 ? ["block"] : []), "token:optimal", "token:kseq", "token:rrs"];
  if (!wanted.includes(state.verifier)) state.verifier = "spread";
  show(choice, ...wanted.map((name) => element("option", { value: name }, name)));
  choice.value = state.verifier;
}

function refresh() {
  showControls();
  paintLaws();
  askRound();
  askLengths();
  askTarget();
  saveLink();
}

/// Another state: what was drawn before is forgotten.
function change(changes) {
  quiet("change");
  state = { ...state, draws: [], node: null, ...changes };
  tally = null;
  if (!("p" in changes) && !("q" in changes)) expected = null;
  $("outputs-section").hidden = !isChain();
  refresh();
}

function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!location.hash) return [];
  const seed = readNumber(given.get("seed"), 0, 2 ** 31) ?? newSeed();
  const common = {
    ...fresh(), seed, paths: readNumber(given.get("paths"), 1, MOST_PATHS) ?? 2, step: readNumber(given.get("step"), 0, 99) ?? 0,
    node: readNumber(given.get("node"), 0, 99), verifier: given.get("verifier") ?? "spread",
  };
  const row = readNumber(given.get("recorded"), 0, 99);
  if (given.has("recorded") && row !== null) { state = { ...common, source: "recorded", row, length: 2 }; return []; }
  if (given.get("text")) {
    state = { ...common, source: "text", text: given.get("text"), length: readNumber(given.get("length"), 1, MOST_TEXT_LENGTH) ?? 3 };
    $("text").value = state.text;
    return [];
  }
  const rows = (name) => (given.get(name) ?? "").split(";").map((law) => readLaw(law, 2, MOST_TOKENS));
  const p = rows("p"), q = rows("q"), tokens = p[0]?.length;
  const whole = [p, q].every((rows) => rows.length === tokens + 1 && rows.every((law) => law?.length === tokens));
  const length = readNumber(given.get("length"), 1, MOST_LENGTH);
  if (!whole || !length) {
    complain(new Error("the link is not whole: the laws below are an example"));
    return [];
  }
  state = { ...common, p, q, length };
  return readDraws(given.get("draws"), MOST_DRAWS);
}

$("paths").addEventListener("input", (event) => change({ paths: Number(event.target.value) }));
$("length").addEventListener("input", (event) => change({ length: Number(event.target.value) }));
$("tokens").addEventListener("change", (event) => {
  const count = readNumber(event.target.value, 2, MOST_TOKENS);
  if (!count) return complain(new Error(`${event.target.value || "nothing"} is not a number of tokens from 2 to ${MOST_TOKENS}`));
  const fit = (rows) => Array.from({ length: count + 1 }, (_, row) => resized(rows[row] ?? rows[0], count));
  change({ p: fit(state.p), q: fit(state.q) });
});
$("preset").addEventListener("change", (event) => {
  const preset = PRESETS[event.target.value];
  if (preset) change({ ...structuredClone(preset), source: "chain", step: 0 });
});
$("row").addEventListener("change", (event) => {
  const row = readNumber(event.target.value, 0, 9999);
  if (row === null) return complain(new Error(`${event.target.value || "nothing"} is not the number of a recorded round`));
  change({ source: "recorded", row, paths: MOST_PATHS, step: 0 });
});
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  // The enter key in another field means that field, which has said so already.
  if (document.activeElement?.type === "number") return;
  const text = $("text").value;
  if (!text) return complain(new Error("type a text first"));
  change({ source: "text", text, step: 0 });
  wait();
});
$("verifier").addEventListener("change", (event) => change({ verifier: event.target.value }));
$("redraw").addEventListener("click", () => change({ seed: newSeed(), step: state.step }));
$("draw-one").addEventListener("click", () => drawMore([1]));
$("draw-many").addEventListener("click", () => drawMore([1000]));
$("draw-none").addEventListener("click", () => change({ seed: newSeed() }));
for (const [id, target] of [["first", () => 0], ["back", () => state.step - 1], ["forward", () => state.step + 1], ["last", () => steps.length - 1]]) {
  $(id).addEventListener("click", () => go(target()));
}
document.addEventListener("keydown", (event) => {
  // Sliders and fields have the arrows for themselves.
  if (event.target.closest("input, select, textarea, [role=slider]") || event.ctrlKey || event.altKey || event.metaKey) return;
  const step = { ArrowLeft: state.step - 1, ArrowRight: state.step + 1, Home: 0, End: steps.length - 1 }[event.key];
  // Outside the steps Home and End belong to the page.
  const ours = event.target.closest("#steps-section") || (event.target === document.body && event.key.startsWith("Arrow"));
  if (step === undefined || !ours) return;
  event.preventDefault();
  go(step);
});
addEventListener("hashchange", () => { const draws = restore(); tally = null; expected = null; refresh(); drawMore(draws); });

const draws = restore();
watchWidths(PICTURES, () => { paintLaws(); if (answer) { paintStep(); paintLengths(); } paintOutputs(); });
refresh();
drawMore(draws);
