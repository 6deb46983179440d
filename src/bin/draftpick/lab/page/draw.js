// The pictures of one token: functions from numbers and a width to trees. They know nothing of the page.

import {
  A, GREY, INK, KEPT, P, PALE, Q, colour, element, fitting, legend, line, onColour, percent, picture, rectangle, short, text,
} from "./svg.js";

/// Bars of both laws; `adjust(law, token, share)` is called when one is moved, with what `row` says besides.
export function bars(p, q, names, adjust, { width, height = 220, title, row = "", marked = [], plain = false }) {
  const top = plain ? 18 : 44, floor = height - (marked.length ? 34 : 22);
  const room = width / p.length;
  const most = Math.max(...p, ...q, 0.05);
  const scale = (floor - top) / Math.min(1, most * 1.15);
  const bar = (law, token, share, x, fill) => {
    // A handle as high as the picture would hide the other bars; a minimum keeps bars of 0 within reach.
    const tall = Math.max(share * scale, 5);
    const where = row ? `${law} of token ${names[token]} ${row}` : `${law} of token ${names[token]}`;
    return rectangle(x.toFixed(1), (floor - tall).toFixed(1), (room * 0.38).toFixed(1), tall.toFixed(1), fill, {
      class: "bar", tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": 1, "aria-orientation": "vertical",
      "aria-valuenow": share.toFixed(4), "aria-valuetext": percent(share), "aria-label": where, "data-law": law, "data-token": token, "data-row": row,
    });
  };
  // What happens to a bar is seen to by the picture: handlers of every bar would all be new with every picture.
  const share = ({ law, token }) => (law === "p" ? p : q)[token];
  const keyed = (event) => {
    const { law, token } = event.target.dataset;
    if (!law) return;
    const step = { ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1 }[event.key];
    const wanted = event.key === "Home" ? 0 : event.key === "End" ? 1 : step === undefined ? undefined : share({ law, token }) + step;
    if (wanted === undefined) return;
    event.preventDefault();
    adjust(law, Number(token), wanted);
  };
  const held = (event) => {
    const { law, token } = event.target.dataset;
    if (!law) return;
    const box = event.currentTarget.getBoundingClientRect();
    const offset = box.top + scrollY, stretch = height / box.height;
    const move = (event) => adjust(law, Number(token), (floor - (event.pageY - offset) * stretch) / scale);
    const stop = () => {
      removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) removeEventListener(name, stop);
    };
    addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, stop);
    event.preventDefault();
    event.target.focus();
  };
  const parts = plain ? [text(2, 12, title)] : legend(2, 14, [[P, "p, drafted"], [Q, "q, the target"]]);
  if (marked.length && !plain) parts.push(...legend(214, 14, [[INK, "in H", { height: 3, y: 8 }]]));
  parts.push(line([[0, floor], [width, floor]], GREY, { "stroke-width": 1 }));
  const inside = new Set(marked);
  p.forEach((_, token) => {
    const x = token * room + room * 0.1;
    parts.push(bar("p", token, p[token], x, P), bar("q", token, q[token], x + room * 0.4, Q));
    const size = Math.min(13, Math.max(8, room / 3));
    parts.push(text((x + room * 0.4).toFixed(1), floor + 15, fitting(names[token], room, size), { "text-anchor": "middle", "font-size": size }));
    if (room > 76) {
      const value = (share, at) => text((x + room * at).toFixed(1), (floor - Math.max(share * scale, 5) - 4).toFixed(1), short(share), { "text-anchor": "middle", "font-size": 11 });
      parts.push(value(p[token], 0.19), value(q[token], 0.59));
    }
    if (inside.has(token)) parts.push(rectangle(x.toFixed(1), floor + 22, (room * 0.78).toFixed(1), 3, INK));
  });
  return picture(width, height, title, parts, { role: "group", onkeydown: keyed, onpointerdown: held });
}

/// Acceptance against the number of drafts.
export function growth({ ks, growth, guarantee, rules, k }, width) {
  const height = width > 480 ? 440 : 300, left = 44, right = width - 16, top = 64, floor = height - 44;
  // The guarantee of k-SEQ: this share of the optimum.
  const promised = growth.map((value, i) => value * guarantee[i]);
  const known = (values) => values.filter((value) => value !== null);
  const all = [...growth, ...promised, ...rules.flatMap((rule) => known(rule.values))];
  const low = Math.max(0, Math.min(...all) - 0.05), high = Math.min(1, Math.max(...all) + 0.02);
  const x = (k) => left + ((right - left) * (k - ks[0])) / (ks[ks.length - 1] - ks[0]);
  const y = (value) => floor - ((floor - top) * (value - low)) / (high - low || 1);
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const value = low + ((high - low) * i) / 4;
    parts.push(line([[left, y(value)], [right, y(value)]], PALE, { "stroke-width": 1 }), text(left - 6, (y(value) + 4).toFixed(1), value.toFixed(2), { "text-anchor": "end" }));
  }
  ks.forEach((k) => parts.push(text(x(k).toFixed(1), floor + 16, k, { "text-anchor": "middle" })));
  parts.push(text((left + right) / 2, floor + 34, "drafts k", { "text-anchor": "middle" }));
  parts.push(line([[x(k), top], [x(k), floor]], GREY, { "stroke-width": 1, "stroke-dasharray": "3 3" }));
  const curve = (values, stroke, attributes) => line(values.flatMap((value, i) => (value === null ? [] : [[x(ks[i]), y(value)]])), stroke, attributes);
  parts.push(curve(growth, "#c8c8c8", { "stroke-width": 8 }));
  parts.push(curve(promised, P, { "stroke-width": 1, "stroke-dasharray": "2 4" }));
  rules.forEach(({ name, values }) => parts.push(curve(values, ...LOOKS[name])));
  const dot = growth[k - 1];
  parts.push(element("circle", { cx: x(k).toFixed(1), cy: y(dot).toFixed(1), r: 5, fill: KEPT, stroke: INK }));
  const entries = [["the optimum", "#c8c8c8", { "stroke-width": 8 }], ["guarantee of kseq", P, { "stroke-width": 1, "stroke-dasharray": "2 4" }],
    ...rules.map(({ name }) => [name, ...LOOKS[name]])];
  let at = left - 34, row = 12;
  for (const [name, stroke, attributes] of entries) {
    const long = 38 + name.length * 6.6;
    if (at + long > width) [at, row] = [left - 34, row + 19];
    parts.push(line([[at, row], [at + 24, row]], stroke, attributes), text(at + 29, row + 4, name));
    at += long + 6;
  }
  return picture(width, height, `Acceptance against the number of drafts: the optimum is ${short(dot)} for ${k}`, parts);
}

const LOOKS = {
  maximal: ["#666666", { "stroke-dasharray": "1 3" }],
  rrs: ["#c04a00", { "stroke-dasharray": "8 4" }],
  "rrs-wor": ["#a0427a", { "stroke-dasharray": "3 3" }],
  kseq: [P, { "stroke-dasharray": "12 5" }],
  optimal: [KEPT, {}],
};

/// What a set `H` forbids, for the sets that can be the tightest one.
export function cut({ cuts, cut, k }, names, width) {
  const height = 250, left = 44, right = width - 10, top = 40, floor = 180;
  const values = [1, ...cuts.map(({ value }) => value)];
  const low = Math.min(...values), high = Math.max(...values), base = Math.max(0, low - 0.1);
  const y = (value) => floor - ((floor - top) * (value - base)) / (high - base || 1);
  const room = (right - left) / values.length;
  const parts = [text(left - 36, 12, "1 + q(H) − p(H)^k: no rule accepts more")];
  for (const value of [base, (high + base) / 2, high]) {
    parts.push(line([[left, y(value)], [right, y(value)]], PALE, { "stroke-width": 1 }), text(left - 6, (y(value) + 4).toFixed(1), value.toFixed(2), { "text-anchor": "end" }));
  }
  values.forEach((value, i) => {
    const best = i === cut.length, x = left + room * i;
    parts.push(rectangle((x + room * 0.12).toFixed(1), y(value).toFixed(1), (room * 0.76).toFixed(1), (floor - y(value)).toFixed(1), best ? KEPT : "#b9c4cc"));
    if (room > 40 || best) parts.push(text((x + room / 2).toFixed(1), (y(value) - 4).toFixed(1), value.toFixed(3), { "text-anchor": best && room < 40 ? (i > values.length / 2 ? "end" : "start") : "middle", "font-size": 11 }));
    const size = Math.min(12, Math.max(8, room / 2.5));
    parts.push(text((x + room / 2).toFixed(1), floor + 15, i === 0 ? "∅" : `+${fitting(names[cuts[i - 1].token], room - 4, size)}`, { "text-anchor": "middle", "font-size": size }));
  });
  parts.push(text((left + right) / 2, floor + 36, "H, one token more at a time, the most over-drafted first", { "text-anchor": "middle" }));
  const set = cut.length ? `H = {${cut.map((token) => names[token]).join(", ")}}` : "H is empty";
  parts.push(text((left + right) / 2, floor + 56, fitting(`the lowest: ${set}`, width - 20), { "text-anchor": "middle", "font-weight": 600 }));
  return picture(width, height, `What each set H forbids with ${k} drafts: the tightest, ${short(values[cut.length])}, is the optimum. ${set}`, parts);
}

/// The regions on [0, 1] under the density of the largest label, with the last drafts' labels.
export function layout({ regions, k }, names, last, width) {
  const height = 276, left = 14, right = width - 14, top = 28, base = 164, strip = 26;
  const x = (u) => left + (right - left) * u;
  const y = (density) => base - ((base - top) * density) / k;
  const parts = [];
  regions.forEach(({ token, segments, shares_with }) => {
    if (shares_with !== null && shares_with !== token) return;
    segments.forEach(([lo, hi]) => {
      const points = [[x(lo), base]];
      const pieces = Math.max(1, Math.ceil((hi - lo) * 32));
      for (let i = 0; i <= pieces; i++) {
        const u = lo + ((hi - lo) * i) / pieces;
        points.push([x(u), y(k * u ** (k - 1))]);
      }
      points.push([x(hi), base]);
      parts.push(element("polygon", { points: points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), fill: colour(token), opacity: 0.35 }));
      parts.push(rectangle(x(lo).toFixed(1), base, (x(hi) - x(lo)).toFixed(1), strip, colour(token)));
      const room = x(hi) - x(lo);
      if (room > 16) parts.push(text(x((lo + hi) / 2).toFixed(1), base + 17, fitting(names[token], room), { "text-anchor": "middle", fill: onColour(token) }));
    });
  });
  const density = Array.from({ length: 41 }, (_, i) => [x(i / 40), y(k * (i / 40) ** (k - 1))]);
  parts.push(line(density, INK), text(left, 14, `density of the largest of ${k === 1 ? "1 label" : `${k} labels`}`));
  parts.push(text(left, base + strip + 14, "0"), text(right, base + strip + 14, "1", { "text-anchor": "end" }));
  let words = "The parts of [0, 1] that the tokens own, under the density of the largest label";
  if (last?.labels) {
    const winner = last.labels.indexOf(Math.max(...last.labels));
    last.labels.forEach((label, i) => {
      const at = base + strip + 24 + (i % 4) * 12;
      parts.push(line([[x(label), base + strip], [x(label), at]], INK, { "stroke-width": 1 }));
      parts.push(element("circle", { cx: x(label).toFixed(1), cy: at, r: i === winner ? 7 : 5, fill: colour(last.drafts[i]), stroke: INK, "stroke-width": i === winner ? 3 : 1, class: "drop" }));
    });
    words += `. The largest of the labels ${last.labels.map((label) => label.toFixed(2)).join(", ")} is that of ${names[last.drafts[winner]]}`;
    parts.push(text(width / 2, height - 4, fitting(`the largest label is that of ${names[last.drafts[winner]]}`, width), { "text-anchor": "middle", "font-weight": 600 }));
  } else {
    parts.push(text(width / 2, height - 24, "draw to see the drafts dropped onto it", { "text-anchor": "middle", fill: "#555555" }));
  }
  return picture(width, height, words, parts);
}

/// Which draft is selected, and what is put out.
export function coupling({ joint }, names, width) {
  const count = joint.length, left = 74, top = 38, cell = Math.min(90, (width - left - 4) / count, 330 / count);
  const height = Math.ceil(top + cell * count + 28);
  const most = Math.max(...joint.flat(), 1e-9);
  // One ground for all cells: most of a large coupling is empty, and nodes are what drawing it costs.
  const ground = rectangle(left, top, cell * count - 1, cell * count - 1, "#f3f3f3");
  const parts = [text(left, 12, "put out"), text(2, top - 8, "selected"), ground];
  const label = Math.min(12, Math.max(8, cell - 1));
  joint.forEach((row, i) => {
    if (cell > 7) {
      parts.push(text(left - 6, (top + cell * (i + 0.5) + 4).toFixed(1), fitting(names[i], left - 10, label), { "text-anchor": "end", "font-size": label }));
      parts.push(text((left + cell * (i + 0.5)).toFixed(1), top - 6, fitting(names[i], cell + 4, label), { "text-anchor": "middle", "font-size": label }));
    }
    row.forEach((mass, j) => {
      if (!(mass > 0)) return;
      // Never so strong that a number on it could not be read.
      const strength = 0.12 + 0.5 * Math.sqrt(mass / most);
      const node = rectangle((left + cell * j).toFixed(1), (top + cell * i).toFixed(1), (cell - 1).toFixed(1), (cell - 1).toFixed(1), i === j ? KEPT : "#c04a00",
        { "fill-opacity": strength.toFixed(2) });
      node.children.push(element("title", {}, `${names[i]} selected, ${names[j]} put out: ${short(mass)}`));
      parts.push(node);
      if (cell > 34) parts.push(text((left + cell * (j + 0.5)).toFixed(1), (top + cell * (i + 0.5) + 4).toFixed(1), mass.toFixed(2), { "text-anchor": "middle", "font-size": 11 }));
    });
  });
  parts.push(...legend(2, height - 5, [[KEPT, "accepted"], ["#c04a00", "rejected and replaced"]]));
  const accepted = joint.reduce((sum, row, i) => sum + row[i], 0);
  return picture(width, height, `The coupling of the selected draft and the output, as a heat map: on its diagonal, ${percent(accepted)}, is what is accepted`, parts);
}

/// Bars of one law with marks of another.
export function marked(values, marks, names, title, words, width, colours = colour) {
  const height = 190, top = 30, floor = 160;
  const room = width / values.length;
  const most = Math.max(...values, ...(marks ?? []), 0.02);
  const parts = [line([[0, floor], [width, floor]], GREY, { "stroke-width": 1 }), text(2, 13, fitting(words, width))];
  values.forEach((value, token) => {
    const tall = ((floor - top) * value) / most, x = token * room + room * 0.15;
    parts.push(rectangle(x.toFixed(1), (floor - tall).toFixed(1), (room * 0.7).toFixed(1), tall.toFixed(1), colours(token)));
    if (marks) {
      const y = floor - ((floor - top) * marks[token]) / most;
      parts.push(line([[x - room * 0.08, y], [x + room * 0.78, y]], INK, { "stroke-width": 3 }));
    }
    const size = Math.min(12, Math.max(8, room / 0.76 / Math.max(2, names[token].length)));
    parts.push(text((x + room * 0.35).toFixed(1), floor + 16, fitting(names[token], room + 4, size), { "text-anchor": "middle", "font-size": size }));
    if (room > 46 && value > 0) parts.push(text((x + room * 0.35).toFixed(1), (floor - tall - 5).toFixed(1), short(value), { "text-anchor": "middle", "font-size": 11 }));
  });
  return picture(width, height, title, parts);
}

/// For two tokens, what can be accepted of each: the polygon of the linear program, and its optimum.
export function polytope({ polytope: { accepted, most }, q, optimum, k }, names, width) {
  const side = Math.min(300, width - 110), left = 62, top = 18, floor = top + side, height = floor + 64;
  // Room for all that is inside, and the same scale both ways.
  const high = Math.min(1, Math.max(most[0], most[1], q[0], q[1]) * 1.08 + 0.02);
  const x = (mass) => left + (side * mass) / high, y = (mass) => floor - (side * mass) / high;
  const limits = [Math.min(most[0], q[0]), Math.min(most[1], q[1])];
  // Corners of 0 ≤ x ≤ limits[0], 0 ≤ y ≤ limits[1], x + y ≤ 1.
  const corners = [[0, 0], [limits[0], 0]];
  if (limits[0] + limits[1] > 1) corners.push([limits[0], 1 - limits[0]], [1 - limits[1], limits[1]]);
  else corners.push(limits);
  corners.push([0, limits[1]]);
  const at = ([a, b]) => [x(a), y(b)];
  const inside = (a) => [[a, 0], [a, high]].map(at);
  const across = (b) => [[0, b], [high, b]].map(at);
  const thin = (points, stroke, dash) => line(points, stroke, { "stroke-width": 1.5, "stroke-dasharray": dash });
  // The level of the objective through the optimum, clipped to the picture.
  const level = [[Math.max(0, optimum - high), Math.min(high, optimum)], [Math.min(high, optimum), Math.max(0, optimum - high)]].map(at);
  const parts = [
    line([[x(0), top], [x(0), floor], [x(high), floor]], GREY, { "stroke-width": 1 }),
    element("polygon", { points: corners.map(at).map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), fill: "#dcebf5", stroke: P, "stroke-width": 2 }),
    thin(inside(q[0]), Q, "5 3"), thin(across(q[1]), Q, "5 3"),
    thin(inside(most[0]), INK, "2 3"), thin(across(most[1]), INK, "2 3"),
    line(level, KEPT, { "stroke-width": 3 }),
    element("circle", { cx: x(accepted[0]).toFixed(1), cy: y(accepted[1]).toFixed(1), r: 7, fill: KEPT, stroke: INK }),
    text(x(accepted[0]) - 10, y(accepted[1]) + 18, short(optimum), { "text-anchor": "end", "font-weight": 600 }),
    text(left - 6, y(high) + 6, high.toFixed(2), { "text-anchor": "end" }), text(left - 6, floor, "0", { "text-anchor": "end" }),
    text(x(high), floor + 15, high.toFixed(2), { "text-anchor": "end" }),
    text(left + side / 2, floor + 15, `${fitting(names[0], 90)} accepted`, { "text-anchor": "middle" }),
    text(16, top + side / 2, `${fitting(names[1], 90)} accepted`, { "text-anchor": "middle", transform: `rotate(-90 16 ${top + side / 2})` }),
    line([[2, floor + 30], [26, floor + 30]], Q, { "stroke-width": 1.5, "stroke-dasharray": "5 3" }), text(31, floor + 34, "q: wanted"),
    line([[106, floor + 30], [130, floor + 30]], INK, { "stroke-width": 1.5, "stroke-dasharray": "2 3" }), text(135, floor + 34, `1 − (1 − p)^${k}: any draft is it`),
    line([[2, floor + 50], [26, floor + 50]], KEPT, { "stroke-width": 3 }), text(31, floor + 54, `as much accepted as at the optimum`),
  ];
  return picture(width, height, `The polygon of what can be accepted of each of two tokens: at most ${short(optimum)} in all, at ${short(accepted[0])} and ${short(accepted[1])}`, parts);
}
