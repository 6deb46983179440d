// Pictures as plain trees, and the least change of the page that makes it show one: most of a picture stays as it is while
// a bar is dragged, and what stays costs nothing.

const SVG = "http://www.w3.org/2000/svg";
const HTML = "http://www.w3.org/1999/xhtml";

/// A node: its name, its attributes (those that begin with "on" are what happens), and its children, nodes or texts.
export const element = (name, attributes = {}, children = []) => ({ name, attributes, children: [].concat(children) });

const before = new WeakMap();

function set(node, key, value) {
  if (key.startsWith("on")) node[key] = value;
  else node.setAttribute(key, value);
}

function create(wanted, space) {
  if (typeof wanted === "string") return document.createTextNode(wanted);
  const inner = wanted.name === "svg" ? SVG : space;
  const node = document.createElementNS(inner, wanted.name);
  for (const [key, value] of Object.entries(wanted.attributes)) set(node, key, value);
  before.set(node, wanted);
  for (const child of wanted.children) node.append(create(child, inner));
  return node;
}

/// Makes `node` what is wanted; what there is may have to give way to something new.
function update(node, wanted, space) {
  const shown = before.get(node);
  if (typeof wanted === "string" ? node.nodeType === Node.TEXT_NODE : shown?.name === wanted.name) {
    if (typeof wanted === "string") {
      if (node.data !== wanted) node.data = wanted;
      return;
    }
    for (const key in wanted.attributes) {
      if (shown.attributes[key] !== wanted.attributes[key]) set(node, key, wanted.attributes[key]);
    }
    for (const key in shown.attributes) {
      if (key in wanted.attributes) continue;
      if (key.startsWith("on")) node[key] = null;
      else node.removeAttribute(key);
    }
    before.set(node, wanted);
    updateChildren(node, wanted.children, wanted.name === "svg" ? SVG : space);
  } else {
    node.replaceWith(create(wanted, space));
  }
}

function updateChildren(node, wanted, space) {
  let child = node.firstChild;
  for (const next of wanted) {
    if (child) {
      const following = child.nextSibling;
      update(child, next, space);
      child = following;
    } else {
      node.append(create(next, space));
    }
  }
  while (child) {
    const following = child.nextSibling;
    child.remove();
    child = following;
  }
}

/// Makes the given trees all that is inside `place`.
export function show(place, ...trees) {
  updateChildren(place, trees, HTML);
}

export const INK = "#222222", GREY = "#bbbbbb", PALE = "#e4e4e4";
/// The draft's law, the target's, the winner's.
export const P = "#0072b2", Q = "#d55e00", A = "#7b4fa3", KEPT = "#00785a";
// After Okabe and Ito, apart for colour-blind eyes as well; and what is written on each.
const COLOURS = ["#0072b2", "#e69f00", "#00785a", "#cc79a7", "#56b4e9", "#c04a00", "#8c6d1f", "#666666"];
const DARK = [true, false, true, false, false, true, true, true];

export const colour = (token) => COLOURS[token % COLOURS.length];
export const onColour = (token) => (DARK[token % COLOURS.length] ? "#ffffff" : INK);
export const short = (x) => (x === 0 ? "0" : x < 0.001 ? x.toExponential(1) : x.toFixed(3));
export const percent = (x) => `${(100 * x).toFixed(1)} %`;

/// A name that fits into so many pixels.
export function fitting(name, room, size = 12) {
  const most = Math.max(1, Math.floor(room / (0.62 * size)));
  return name.length <= most ? name : most < 3 ? name.slice(0, most) : `${name.slice(0, most - 1)}…`;
}

export function text(x, y, words, attributes = {}) {
  return element("text", { x, y, "font-size": 12, fill: INK, "font-family": "system-ui, sans-serif", ...attributes }, String(words));
}

export function rectangle(x, y, width, height, fill, attributes = {}) {
  return element("rect", { x, y, width: Math.max(0, width), height: Math.max(0, height), fill, ...attributes });
}

export function line(points, stroke, attributes = {}) {
  return element("polyline", {
    points: points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" "),
    fill: "none", stroke, "stroke-width": 2, ...attributes,
  });
}

/// Sample and name of each thing in a row, from `x` on.
export function legend(x, y, things) {
  return things.flatMap(([fill, words, attributes = {}]) => {
    const at = x;
    x += 24 + words.length * 6.6;
    return [rectangle(at, y - 10, 12, 12, fill, attributes), text(at + 16, y, words)];
  });
}

export function picture(width, height, title, children, attributes = {}) {
  return element("svg", { xmlns: SVG, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, ...attributes },
    [element("title", {}, title), ...children]);
}
