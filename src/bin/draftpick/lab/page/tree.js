// The pictures of whole paths: functions from numbers and a width to trees. They know nothing of the page.

import {
  A, GREY, INK, KEPT, P, PALE, Q, colour, element, fitting, legend, line, onColour, picture, rectangle, short, text,
} from "./svg.js";

/// The drafted tree. `seen` says what has been told so far: `winner`, how many of its nodes have a weight (`weighed`), the node
/// that is looked at (`at`), those that were given up (`given`), the one that is kept (`kept`). `pick(node)` is called when one is
/// chosen.
export function tree(answer, seen, pick, width) {
  const { nodes, leaves, labels, winner, length } = answer;
  const gap = 52, top = 40, left = 26, right = seen.labels ? width - 96 : width - 40;
  const rows = leaves.length === 0 ? [] : [...new Set(leaves)];
  const y = nodes.map(() => 0);
  // Leaves from the top down as the paths come; a node in the middle of what follows it.
  const children = nodes.map((_, at) => nodes.flatMap((node, i) => (i > 0 && node.parent === at ? [i] : [])));
  let next = 0;
  const place = (at) => {
    if (!children[at].length) { y[at] = top + gap * next++; return; }
    children[at].forEach(place);
    y[at] = (y[children[at][0]] + y[children[at][children[at].length - 1]]) / 2;
  };
  place(0);
  const height = top + gap * rows.length - 6;
  const step = (right - left) / length;
  const x = (at) => left + step * nodes[at].depth;
  const winning = new Set(way(answer, leaves[winner]));
  const keptWay = seen.kept === null ? new Set() : new Set(way(answer, seen.kept));
  const box = Math.min(74, step - 14);
  const parts = [];
  for (let depth = 0; depth <= length; depth++) {
    parts.push(text(left + step * depth, 14, depth === 0 ? "start" : depth, { "text-anchor": "middle", fill: "#555555" }));
  }
  nodes.forEach((node, at) => {
    if (at === 0) return;
    const won = seen.winner && winning.has(at);
    const stroke = keptWay.has(at) ? KEPT : won ? A : "#8a8a8a";
    parts.push(line([[x(node.parent), y[node.parent]], [x(at), y[at]]], stroke, { "stroke-width": won ? 6 : 2 }));
  });
  nodes.forEach((node, at) => {
    const won = seen.winner && winning.has(at), given = seen.given.has(at), kept = keptWay.has(at);
    const fill = kept ? KEPT : given ? "#ffffff" : won ? A : "#eeeeee";
    const ink = kept || (won && !given) ? "#ffffff" : INK;
    const name = at === 0 ? "start" : node.name;
    const words = `${at === 0 ? "the start" : `token ${name} at depth ${node.depth}`}, ${node.paths.length === 1 ? `path ${node.paths[0] + 1}` : `paths ${node.paths.map((path) => path + 1).join(", ")}`}`
      + (won ? ", on the winner" : "") + (kept ? ", kept" : given ? ", given up" : "");
    const size = at === 0 ? 46 : box;
    const body = rectangle((x(at) - size / 2).toFixed(1), (y[at] - 14).toFixed(1), size.toFixed(1), 28, fill, {
        rx: 7, stroke: seen.at === at ? INK : given ? A : kept ? KEPT : won ? A : "#8a8a8a",
        "stroke-width": seen.at === at ? 4 : 1.5, "stroke-dasharray": given ? "4 3" : "none",
      });
    if (won && at !== 0 && node.depth <= seen.weighed) {
      parts.push(text(x(at).toFixed(1), (y[at] + 28).toFixed(1), `P ${node.weight.toFixed(2)}`, { "text-anchor": "middle", "font-size": 11 }));
    }
    parts.push(element("g", {
      class: "node", tabindex: 0, role: "button", "aria-label": words, "aria-pressed": seen.at === at, "data-node": at,
      onclick: () => pick(at),
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(at); } },
    }, body));
    // Not inside of what is chosen: its name is told whole, and what is written may have been cut.
    parts.push(text(x(at).toFixed(1), (y[at] + 4).toFixed(1), fitting(name, size - 6, at === 0 ? 11 : 13), { "text-anchor": "middle", fill: ink, "font-size": at === 0 ? 11 : 13, "pointer-events": "none" }));
  });
  if (seen.labels) {
    rows.forEach((leaf) => {
      const there = leaves.flatMap((other, path) => (other === leaf ? [path] : []));
      there.forEach((path, i) => {
        const won = seen.winner && path === winner;
        const at = y[leaf] + 4 + 14 * (i - (there.length - 1) / 2);
        parts.push(text(right + box / 2 + 6, at.toFixed(1), `${path + 1}: ${labels[path].toFixed(2)}`, { "font-weight": won ? 700 : 400, fill: won ? A : INK, "font-size": 12 }));
      });
    });
    parts.push(text(width - 2, 14, "labels", { "text-anchor": "end", fill: "#555555" }));
  }
  return picture(width, height, `The tree of ${leaves.length} drafted paths of ${length} tokens`, parts, { role: "group" });
}

/// The nodes from the start to one.
export function way({ nodes }, at) {
  const passed = [at];
  while (at !== 0) passed.unshift(at = nodes[at].parent);
  return passed;
}

/// The labels of the paths on [0, 1].
export function strip({ labels, winner }, showWinner, width) {
  const left = 16, right = width - 16, base = 34, height = 74;
  const x = (u) => left + (right - left) * u;
  const parts = [line([[left, base], [right, base]], INK, { "stroke-width": 2 })];
  for (const u of [0, 0.5, 1]) {
    parts.push(line([[x(u), base], [x(u), base + 6]], INK, { "stroke-width": 1 }), text(x(u), base + 20, u, { "text-anchor": "middle" }));
  }
  const order = labels.map((_, path) => path).sort((a, b) => labels[a] - labels[b]);
  order.forEach((path, i) => {
    const won = showWinner && path === winner, at = base - 10 - (i % 2 ? 4 : 0);
    parts.push(element("circle", { cx: x(labels[path]).toFixed(1), cy: at, r: won ? 11 : 8, fill: won ? A : "#ffffff", stroke: A, "stroke-width": 2 }));
    parts.push(text(x(labels[path]).toFixed(1), at + 4, path + 1, { "text-anchor": "middle", "font-size": 11, fill: won ? "#ffffff" : INK }));
  });
  if (showWinner) parts.push(text(width / 2, height - 4, `the largest label is that of path ${winner + 1}`, { "text-anchor": "middle", "font-weight": 600 }));
  return picture(width, height, `The labels of the paths: ${labels.map((label, path) => `path ${path + 1} ${label.toFixed(2)}`).join(", ")}`, parts);
}

/// The labels of a node, shared out among its next tokens: as they are drafted, and as the largest of `k` is distributed.
export function shares(node, k, width) {
  const twice = k > 1, side = twice && width >= 520;
  const chart = side ? (width - 24) / 2 : width, tall = 132, top = 26;
  const height = twice && !side ? 2 * (tall + 62) : tall + 62;
  const tokens = node.tokens.filter(({ draft }) => draft > 0);
  const ends = [...new Set([...node.label, ...tokens.flatMap(({ label }) => label ?? [])].flatMap(({ lo, hi }) => [lo, hi]))].sort((a, b) => a - b);
  const density = (pieces, lo, hi) => pieces.reduce((sum, piece) => sum + (piece.lo <= lo && piece.hi >= hi && piece.hi > piece.lo ? piece.share / (piece.hi - piece.lo) : 0), 0);
  const cells = ends.slice(1).map((hi, i) => ({ lo: ends[i], hi, all: density(node.label, ends[i], hi) })).filter(({ all, lo, hi }) => all > 0 && hi - lo > 1e-9);
  const most = Math.max(...cells.map(({ all }) => all), 1e-9);
  const parts = [];
  // As much of [0, 1] as the node has labels on.
  const [low, high] = [node.label[0].lo, node.label[node.label.length - 1].hi];
  const draw = (left, top, warp, words) => {
    const floor = top + tall, x = (u) => left + ((chart - 2) * (warp(u) - warp(low))) / (warp(high) - warp(low) || 1);
    parts.push(text(left, top - 10, fitting(words, chart)), rectangle(left, top, chart - 2, tall, "#f4f4f4"));
    for (const { lo, hi, all } of cells) {
      let y = floor;
      tokens.forEach(({ draft, label }, token) => {
        const share = label ? draft * density(label, lo, hi) : Math.max(0, all - (floor - y) * most / tall);
        const rise = (tall * share) / most;
        if (rise < 0.05) return;
        y -= rise;
        // A hair wider than it is: no seams between what belongs together.
        parts.push(rectangle(x(lo).toFixed(2), y.toFixed(2), (x(hi) - x(lo) + 0.3).toFixed(2), rise.toFixed(2), colour(token)));
      });
    }
    const digits = high - low > 0.5 ? 1 : Math.min(9, 2 - Math.floor(Math.log10(Math.max(high - low, 1e-9))));
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      const u = low + (high - low) * part, inner = part > 0 && part < 1;
      // The ends always, what is between them only where it does not run into them.
      if (inner && (x(u) < left + 52 || x(u) > left + chart - 54)) continue;
      parts.push(line([[x(u), floor], [x(u), floor + 4]], INK, { "stroke-width": 1 }), text(x(u).toFixed(1), floor + 17, inner ? u.toFixed(digits + (high - low > 0.5 ? 1 : 0)) : +u.toFixed(digits), { "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle", "font-size": 11 }));
    }
  };
  draw(1, top, (u) => u, "labels as drafted: areas are p");
  if (twice) draw(side ? chart + 24 : 1, side ? top : top + tall + 62, (u) => u ** k, "labels of the winner: areas are a");
  let at = 1;
  const row = height - 4;
  tokens.forEach(({ name }, token) => {
    const words = fitting(name, 84), room = 24 + words.length * 7.2;
    if (at + room > width) return;
    parts.push(...legend(at, row, [[colour(token), words]]));
    at += room;
  });
  return picture(width, height, `The labels of this node, shared out among its next tokens: ${tokens.map(({ name, draft, selected }) => `${name} has ${short(draft)} of them when drafted, ${short(selected)} when they win`).join("; ")}`, parts);
}

/// A node's laws side by side: drafted, the winner's, what the target still wants. A leaf has the target's only.
export function masses(node, showRest, width) {
  const leaf = node.residual === null;
  const tokens = leaf ? node.tokens.filter(({ target }) => target > 0) : node.tokens;
  const height = 226, top = 58, floor = 196, room = width / tokens.length;
  const values = tokens.flatMap(({ draft, selected, target, wanted }) => (leaf ? [target] : [draft, selected, wanted]));
  const most = Math.max(...values, 0.02);
  const y = (value) => floor - ((floor - top) * value) / most;
  const parts = [line([[0, floor], [width, floor]], GREY, { "stroke-width": 1 })];
  parts.push(...(leaf ? legend(2, 14, [[Q, "q, the target after this node"]])
    : legend(2, 14, [[P, "p, drafted"], [A, "a, the winner's"], [Q, "P·q, wanted"]])));
  if (!leaf && showRest) parts.push(...legend(2, 34, [["none", "P·q beyond a: what is left", { stroke: INK, "stroke-width": 2, "stroke-dasharray": "3 2" }]]));
  tokens.forEach(({ name, draft, selected, target, wanted }, token) => {
    const x = token * room + room * 0.08, wide = room * 0.26;
    const number = (value, at, room) => (room > 24 ? [text(at.toFixed(1), (y(value) - 4).toFixed(1), value === 0 ? "0" : value.toFixed(2), { "text-anchor": "middle", "font-size": 11 })] : []);
    const bar = (value, place, fill) => {
      const at = x + wide * place * 1.05;
      return [rectangle(at.toFixed(1), y(value).toFixed(1), wide.toFixed(1), (floor - y(value)).toFixed(1), fill), ...number(value, at + wide / 2, wide)];
    };
    if (leaf) {
      parts.push(rectangle((x + room * 0.12).toFixed(1), y(target).toFixed(1), (room * 0.6).toFixed(1), (floor - y(target)).toFixed(1), Q), ...number(target, x + room * 0.42, room * 0.6));
    } else {
      parts.push(...bar(draft, 0, P), ...bar(selected, 1, A), ...bar(wanted, 2, Q));
      if (showRest && wanted > selected) {
        parts.push(rectangle((x + wide * 2.1 + 1).toFixed(1), y(wanted).toFixed(1), (wide - 2).toFixed(1), (y(selected) - y(wanted)).toFixed(1), "#ffffff", { stroke: INK, "stroke-width": 2, "stroke-dasharray": "3 2", "fill-opacity": 0.55 }));
      }
    }
    const size = Math.min(13, Math.max(9, room / 4));
    parts.push(text((x + room * 0.42).toFixed(1), floor + 16, fitting(name, room - 2, size), { "text-anchor": "middle", "font-size": size }));
  });
  const words = leaf ? "The target's law after this node" : "At this node, for every next token: p as drafted, a as the winner's, and P·q as the target still wants it";
  return picture(width, height, words, parts);
}

/// What each verifier keeps, as bars; the optimum as a line.
export function lengths(rows, optimum, most, width) {
  const left = Math.min(160, width * 0.44), right = width - 52, gap = 25, top = 8;
  const height = top + gap * rows.length + (optimum === null ? 26 : 44);
  const longest = Math.max(most * 0.001, ...rows.map(({ value }) => value), optimum ?? 0);
  const x = (value) => left + ((right - left) * value) / longest;
  const parts = rows.flatMap(({ name, value }, i) => {
    const y = top + gap * i;
    const fill = { spread: A, path: "#9a77c4", traversal: "#b86b00", block: "#b86b00" }[name] ?? "#5d7f99";
    return [
      text(left - 8, y + 15, fitting(name, left, 12), { "text-anchor": "end" }),
      rectangle(left, y + 2, (x(value) - left).toFixed(1), gap - 8, fill),
      text(width - 2, y + 15, value.toFixed(3), { "text-anchor": "end" }),
    ];
  });
  const floor = top + gap * rows.length;
  if (optimum !== null) {
    parts.push(line([[x(optimum), top - 4], [x(optimum), floor + 4]], INK, { "stroke-dasharray": "4 3" }));
    parts.push(text(Math.min(x(optimum) + 4, width - 2).toFixed(1), floor + 18, `the most that can be kept: ${optimum.toFixed(3)}`, { "text-anchor": "end" }));
  }
  parts.push(line([[left, top], [left, floor]], PALE, { "stroke-width": 1 }), text(left, height - 4, `drafted tokens kept, of ${most}`, { fill: "#555555" }));
  return picture(width, height, `Drafted tokens kept by each verifier: ${rows.map(({ name, value }) => `${name} ${value.toFixed(3)}`).join(", ")}${optimum === null ? "" : `; at most ${optimum.toFixed(3)}`}`, parts);
}
