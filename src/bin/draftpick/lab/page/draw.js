// Pictures: functions from numbers to SVG. They know nothing of the page.

const NS = "http://www.w3.org/2000/svg";
// After Okabe and Ito, apart for colour-blind eyes as well.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d1f", "#666666"];
const P = "#0072b2", Q = "#d55e00", INK = "#222222", GREY = "#bbbbbb", PALE = "#e4e4e4";

export const colour = (token) => COLOURS[token % COLOURS.length];
export const short = (x) => (x === 0 ? "0" : x < 0.001 ? x.toExponential(1) : x.toFixed(3));

function element(name, attributes = {}, children = []) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  for (const child of [].concat(children)) node.append(child);
  return node;
}

function text(x, y, words, attributes = {}) {
  return element("text", { x, y, "font-size": 12, fill: INK, "font-family": "sans-serif", ...attributes }, String(words));
}

function rectangle(x, y, width, height, fill, attributes = {}) {
  return element("rect", { x, y, width: Math.max(0, width), height: Math.max(0, height), fill, ...attributes });
}

function line(points, stroke, attributes = {}) {
  return element("polyline", {
    points: points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" "),
    fill: "none", stroke, "stroke-width": 2, ...attributes,
  });
}

function picture(width, height, title, children) {
  return element("svg", { xmlns: NS, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    [element("title", {}, title), ...children]);
}

/// Bars of both laws; `adjust(law, token, share)` is called when one is moved.
export function bars(p, q, names, adjust, narrow) {
  const width = narrow ? 460 : 900, height = 240, top = 22, floor = 200;
  const room = width / p.length;
  const most = Math.max(...p, ...q, 0.05);
  const scale = (floor - top) / Math.min(1, most * 1.15);
  const bar = (law, token, share, x, fill) => {
    const place = { class: "bar", tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": 1, "aria-orientation": "vertical",
      "aria-valuenow": share.toFixed(4), "aria-label": `${law} of token ${names[token]}`, "data-law": law, "data-token": token };
    // A handle as high as the picture would hide the other bars; a minimum keeps bars of 0 within reach.
    const tall = Math.max(share * scale, 5);
    const node = rectangle(x, floor - tall, room * 0.38, tall, fill, place);
    node.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1 }[event.key];
      const wanted = event.key === "Home" ? 0 : event.key === "End" ? 1 : step === undefined ? undefined : share + step;
      if (wanted === undefined) return;
      event.preventDefault();
      adjust(law, token, wanted);
    });
    node.addEventListener("pointerdown", (event) => {
      const svg = node.ownerSVGElement;
      const box = svg.getBoundingClientRect();
      const move = (event) => adjust(law, token, (floor - (event.clientY - box.top) * (height / box.height)) / scale);
      const stop = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", stop); };
      addEventListener("pointermove", move);
      addEventListener("pointerup", stop);
      event.preventDefault();
      node.focus();
    });
    return node;
  };
  const parts = [line([[0, floor], [width, floor]], GREY, { "stroke-width": 1 })];
  p.forEach((_, token) => {
    const x = token * room + room * 0.1;
    parts.push(bar("p", token, p[token], x, P), bar("q", token, q[token], x + room * 0.4, Q));
    const size = Math.min(13, Math.max(7, room / 5));
    parts.push(text(x + room * 0.4, floor + 16, names[token], { "text-anchor": "middle", "font-size": size }));
    if (room > 60) {
      parts.push(text(x + room * 0.19, floor - Math.max(p[token] * scale, 5) - 4, short(p[token]), { "text-anchor": "middle", "font-size": 11 }));
      parts.push(text(x + room * 0.59, floor - Math.max(q[token] * scale, 5) - 4, short(q[token]), { "text-anchor": "middle", "font-size": 11 }));
    }
  });
  parts.push(rectangle(4, 4, 12, 12, P), text(20, 14, "p, drafted"), rectangle(100, 4, 12, 12, Q), text(116, 14, "q, the target"));
  const svg = picture(width, height, "The draft law p and the target law q, as bars", parts);
  svg.setAttribute("role", "group");
  return svg;
}

/// Acceptance against the number of drafts.
export function growth({ ks, growth, guarantee, rules, k }) {
  const width = 460, height = 260, left = 44, right = 350, top = 12, floor = 220;
  // The guarantee of k-SEQ: this share of the optimum.
  const promised = growth.map((value, i) => value * guarantee[i]);
  const all = [...growth, ...promised, ...rules.flatMap((rule) => rule.values)];
  const low = Math.max(0, Math.min(...all) - 0.05), high = Math.min(1, Math.max(...all) + 0.02);
  const x = (k) => left + ((right - left) * (k - ks[0])) / (ks[ks.length - 1] - ks[0]);
  const y = (value) => floor - ((floor - top) * (value - low)) / (high - low || 1);
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const value = low + ((high - low) * i) / 4;
    parts.push(line([[left, y(value)], [right, y(value)]], PALE, { "stroke-width": 1 }), text(left - 6, y(value) + 4, value.toFixed(2), { "text-anchor": "end" }));
  }
  ks.forEach((k) => parts.push(text(x(k), floor + 16, k, { "text-anchor": "middle" })));
  parts.push(text((left + right) / 2, floor + 32, "drafts k", { "text-anchor": "middle" }));
  parts.push(line([[x(k), top], [x(k), floor]], GREY, { "stroke-width": 1, "stroke-dasharray": "3 3" }));
  const curve = (values, stroke, attributes) => line(values.map((value, i) => [x(ks[i]), y(value)]), stroke, attributes);
  parts.push(curve(growth, "#c8c8c8", { "stroke-width": 8 }));
  parts.push(curve(promised, P, { "stroke-width": 1, "stroke-dasharray": "2 4" }));
  const looks = { rrs: ["#d55e00", "8 4"], kseq: [P, "12 5"], optimal: ["#008060", "none"] };
  rules.forEach(({ name, values }) => parts.push(curve(values, looks[name][0], { "stroke-dasharray": looks[name][1] })));
  const legend = [["the optimum", "#c8c8c8", "none", 8], ["optimal", "#008060", "none", 2], ["kseq", P, "12 5", 2], ["its guarantee", P, "2 4", 1], ["rrs", "#d55e00", "8 4", 2]];
  legend.forEach(([name, stroke, dash, thick], i) => {
    const at = 24 + i * 22;
    parts.push(line([[right + 12, at], [right + 38, at]], stroke, { "stroke-dasharray": dash, "stroke-width": thick }), text(right + 44, at + 4, name, { "font-size": 11 }));
  });
  return picture(width, height, `Acceptance against the number of drafts: the optimum is ${short(growth[k - 1])} for ${k}`, parts);
}

/// The regions on [0, 1] under the density of the largest label, with the last drafts' labels.
export function layout({ regions, k }, names, last) {
  const width = 460, height = 250, left = 14, right = 446, top = 16, base = 150, strip = 26;
  const x = (u) => left + (right - left) * u;
  const y = (density) => base - ((base - top) * density) / k;
  const parts = [];
  regions.forEach(({ token, segments, shares_with }) => {
    if (shares_with !== null && shares_with !== token) return;
    segments.forEach(([lo, hi]) => {
      const points = [];
      for (let i = 0; i <= 24; i++) {
        const u = lo + ((hi - lo) * i) / 24;
        points.push([x(u), y(k * u ** (k - 1))]);
      }
      const area = [[x(lo), base], ...points, [x(hi), base]].map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
      parts.push(element("polygon", { points: area, fill: colour(token), opacity: 0.35 }));
      parts.push(rectangle(x(lo), base, x(hi) - x(lo), strip, colour(token)));
      if (hi - lo > 0.05) parts.push(text(x((lo + hi) / 2), base + 17, names[token], { "text-anchor": "middle", fill: "#ffffff", "font-size": 12 }));
    });
  });
  const density = Array.from({ length: 61 }, (_, i) => [x(i / 60), y(k * (i / 60) ** (k - 1))]);
  parts.push(line(density, INK), text(left, top + 2, "density of the largest label", { "font-size": 11 }));
  parts.push(text(left, base + strip + 14, "0"), text(right, base + strip + 14, "1", { "text-anchor": "end" }));
  if (last && last.labels) {
    const winner = last.labels.indexOf(Math.max(...last.labels));
    last.labels.forEach((label, i) => {
      const at = base + strip + 26 + (i % 3) * 12;
      parts.push(line([[x(label), base + strip], [x(label), at]], INK, { "stroke-width": 1 }));
      parts.push(element("circle", { cx: x(label), cy: at, r: i === winner ? 7 : 4, fill: colour(last.drafts[i]), stroke: INK, "stroke-width": i === winner ? 2.5 : 1 }));
    });
    parts.push(text((left + right) / 2, height - 6, `the largest label is that of ${names[last.drafts[winner]]}`, { "text-anchor": "middle" }));
  }
  return picture(width, height, "The parts of [0, 1] that the tokens own, under the density of the largest label", parts);
}

/// Which draft is selected, and what is put out.
export function coupling({ joint }, names) {
  const count = joint.length, left = 70, top = 34, cell = Math.min(44, 340 / count);
  const width = 460, height = top + cell * count + 26;
  const most = Math.max(...joint.flat(), 1e-9);
  // One ground for all cells: most of a large coupling is empty, and nodes are what drawing it costs.
  const ground = rectangle(left, top, cell * count - 1, cell * count - 1, "#f3f3f3");
  const parts = [text(left, 12, "put out"), text(6, top + 14, "selected"), ground];
  joint.forEach((row, i) => {
    if (cell > 11) {
      parts.push(text(left - 6, top + cell * (i + 0.6), names[i], { "text-anchor": "end", "font-size": 11 }));
      parts.push(text(left + cell * (i + 0.5), 28, names[i], { "text-anchor": "middle", "font-size": 11 }));
    }
    row.forEach((mass, j) => {
      if (!(mass > 0)) return;
      const fill = i === j ? "#008060" : "#d55e00";
      const node = rectangle(left + cell * j, top + cell * i, cell - 1, cell - 1, fill,
        { "fill-opacity": (0.12 + 0.88 * Math.sqrt(mass / most)).toFixed(3) });
      node.append(element("title", {}, `${names[i]} selected, ${names[j]} put out: ${short(mass)}`));
      parts.push(node);
      if (cell > 34) parts.push(text(left + cell * (j + 0.5), top + cell * (i + 0.6), mass.toFixed(2), { "text-anchor": "middle", "font-size": 11 }));
    });
  });
  parts.push(rectangle(left, height - 16, 12, 12, "#008060"), text(left + 16, height - 6, "accepted"));
  parts.push(rectangle(left + 90, height - 16, 12, 12, "#d55e00"), text(left + 106, height - 6, "rejected and replaced"));
  return picture(width, height, "The coupling of the selected draft and the output, as a heat map", parts);
}

/// Bars of one law with marks of another.
export function marked(values, marks, names, title, words) {
  const width = 460, height = 190, top = 24, floor = 150;
  const room = width / values.length;
  const most = Math.max(...values, ...(marks ?? []), 0.02);
  const parts = [line([[0, floor], [width, floor]], GREY, { "stroke-width": 1 }), text(4, 12, words)];
  values.forEach((value, token) => {
    const tall = ((floor - top) * value) / most, x = token * room + room * 0.15;
    parts.push(rectangle(x, floor - tall, room * 0.7, tall, colour(token)));
    if (marks) {
      const y = floor - ((floor - top) * marks[token]) / most;
      parts.push(line([[x - room * 0.08, y], [x + room * 0.78, y]], INK, { "stroke-width": 3 }));
    }
    const size = Math.min(12, Math.max(6, room / 4));
    parts.push(text(x + room * 0.35, floor + 16, names[token], { "text-anchor": "middle", "font-size": size }));
  });
  return picture(width, height, title, parts);
}

/// For two tokens: what is accepted against the selection law.
export function polytope({ polytope: { least, most, selected }, q, optimum }, names) {
  const width = 460, height = 240, left = 40, right = 440, top = 16, floor = 190;
  const x = (m) => left + (right - left) * m, y = (value) => floor - (floor - top) * value;
  const accepted = (m) => Math.min(m, q[0]) + Math.min(1 - m, q[1]);
  const all = Array.from({ length: 101 }, (_, i) => [x(i / 100), y(accepted(i / 100))]);
  const possible = Array.from({ length: 61 }, (_, i) => least + ((most - least) * i) / 60).map((m) => [x(m), y(accepted(m))]);
  const parts = [
    rectangle(x(least), top, x(most) - x(least), floor - top, "#eef5fa"),
    line([[left, floor], [right, floor]], GREY, { "stroke-width": 1 }),
    line(all, GREY, { "stroke-dasharray": "4 4" }), line(possible, P, { "stroke-width": 4 }),
    line([[x(q[0]), top], [x(q[0]), floor]], Q, { "stroke-width": 1, "stroke-dasharray": "3 3" }),
    element("circle", { cx: x(selected), cy: y(accepted(selected)), r: 7, fill: "#008060", stroke: INK }),
    text(x(least), floor + 16, `p^k = ${short(least)}`, { "text-anchor": least > 0.3 ? "end" : "start" }),
    text(x(most), floor + 32, `1 − (1 − p)^k = ${short(most)}`, { "text-anchor": most > 0.7 ? "end" : "start" }),
    text(x(q[0]), top - 4, "q", { fill: Q, "text-anchor": "middle" }),
    text((left + right) / 2, height - 4, `m, how often ${names[0]} is selected`, { "text-anchor": "middle" }),
    text(left - 4, y(1) + 4, "1", { "text-anchor": "end" }), text(left - 4, floor, "0", { "text-anchor": "end" }),
  ];
  return picture(width, height, `What is accepted against how often the first token is selected: ${short(optimum)} at best`, parts);
}
