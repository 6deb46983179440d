// The pages in a real browser: `node tests/lab/page.mjs URL [FOLDER]`, with playwright-core installed and Chromium at
// /usr/bin/chromium (or $CHROMIUM). Prints what it measured, puts screenshots into FOLDER, ends with 1 if a check fails. With $AXE,
// the path of axe-core's axe.min.js, it looks for what keeps people from using the pages as well.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { chromium } = require("playwright-core");
const [given, folder] = process.argv.slice(2);
const url = given.endsWith("/") ? given : `${given}/`;
const problems = [];
const check = (holds, what) => { console.log(`${holds ? "ok" : "FAILED"}: ${what}`); if (!holds) problems.push(what); };

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const CHAIN = "p=0.5,0.3,0.2;0.5,0.3,0.2;0.3,0.5,0.2;0.2,0.3,0.5&q=0.2,0.3,0.5;0.3,0.4,0.3;0.2,0.3,0.5;0.5,0.3,0.2&paths=3&length=2&seed=7";

async function open(path, width) {
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  page.setDefaultTimeout(15000);
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) problems.push(`asked ${request.url()}`); });
  await page.goto(url + path);
  return page;
}

const says = (page, id, words) => page.waitForFunction(([id, words]) => document.getElementById(id).textContent.includes(words), [id, words]);
const value = (page, law, token, row = "") => page.locator(`[data-law="${law}"][data-token="${token}"][data-row="${row}"]`).getAttribute("aria-valuenow");
const becomes = (page, law, token, row, wanted) => page.waitForFunction(
  ([law, token, row, wanted]) => document.querySelector(`[data-law="${law}"][data-token="${token}"][data-row="${row}"]`)?.getAttribute("aria-valuenow") === wanted, [law, token, row, wanted]);
const enter = async (page, field, words) => { await page.fill(field, words); await page.press(field, "Enter"); };
const numberOf = async (page, id, pattern) => Number((await page.locator(`#${id}`).textContent()).match(pattern)?.[1]?.replaceAll(",", ""));

/// Every picture that is shown, saved and read again.
async function downloads(page, ids) {
  for (const id of ids) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`#${id} [data-save]`)]);
    const svg = readFileSync(await download.path(), "utf8");
    const sound = await page.evaluate((svg) => {
      const read = new DOMParser().parseFromString(svg, "image/svg+xml");
      return !read.querySelector("parsererror") && read.documentElement.localName === "svg" && read.querySelectorAll("rect, polyline, polygon, circle").length > 0
        && !read.querySelector("[tabindex]") && read.documentElement.hasAttribute("width");
    }, svg);
    check(download.suggestedFilename() === `draftpick-${id}.svg` && sound, `picture ${id} downloads as SVG`);
  }
}

/// Nothing written in a picture leaves it, and nothing leaves the page.
async function inside(page, what) {
  const found = await page.evaluate(() => {
    const outside = [];
    for (const svg of document.querySelectorAll(".picture svg")) {
      const box = svg.getBoundingClientRect();
      if (!box.width) continue;
      for (const words of svg.querySelectorAll("text")) {
        const at = words.getBoundingClientRect();
        if (at.width && (at.left < box.left - 3 || at.right > box.right + 3 || at.top < box.top - 3 || at.bottom > box.bottom + 3)) {
          outside.push(`${svg.parentElement.id}: ${words.textContent}`);
        }
      }
    }
    return { outside, wide: document.documentElement.scrollWidth - innerWidth };
  });
  check(found.outside.length === 0, `${what}: every word is inside its picture ${found.outside.slice(0, 5).join("; ")}`);
  check(found.wide <= 0, `${what}: nothing is wider than the page`);
}

async function accessible(page, what) {
  if (!process.env.AXE) return;
  await page.evaluate(readFileSync(process.env.AXE, "utf8"));
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  check(found.violations.length === 0, `${what}: axe finds nothing (${found.passes.length} of its rules pass) ${found.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 120)}`).join("; ")}`);
}

const shot = async (page, name) => { if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true }); };

// One token.

let page = await open("#k=2&p=0.5,0.3,0.2&q=0.2,0.3,0.5", 1280);
await says(page, "answer", "86.0 %");
check(true, "the optimum of the first problem is shown");
await says(page, "rules", "optimal-linear");
check((await page.locator("#rules").textContent()).includes("79.1 %"), "every rule is listed with what it accepts");

await page.focus('[data-law="p"][data-token="0"]');
await page.keyboard.press("ArrowUp");
await becomes(page, "p", 0, "", "0.5100");
check(true, "an arrow key moves a bar");
check(await page.evaluate(() => document.activeElement.dataset.token === "0" && document.activeElement.dataset.law === "p"), "which keeps the focus");
await page.keyboard.press("Home");
await becomes(page, "p", 0, "", "0.0000");
check(true, "Home takes a bar to 0");
await page.goto("about:blank");
await page.goto(`${url}#k=2&p=0.5,0.3,0.2&q=0.2,0.3,0.5`);
await says(page, "answer", "86.0 %");

const bar = await page.locator('[data-law="q"][data-token="0"]').boundingBox();
await page.mouse.move(bar.x + bar.width / 2, bar.y + 2);
await page.mouse.down();
await page.mouse.move(bar.x + bar.width / 2, bar.y - 28, { steps: 4 });
await page.mouse.up();
await page.waitForFunction(() => !document.querySelector("#answer").textContent.includes("86.0 %"));
check(Number(await value(page, "q", 0)) > 0.23, "a bar is dragged with the pointer, and the answer follows");

await page.click("#draw-one");
await says(page, "drawn", "1 drawn");
check((await page.locator("#layout .drop").count()) === 2, "both drafts are dropped onto the layout");
await page.click("#draw-many");
await says(page, "drawn", "1,001 drawn");
const far = await numberOf(page, "drawn", /by ([\d.]+) %/);
for (let i = 0; i < 9; i++) await page.click("#draw-many");
await says(page, "drawn", "9,001 drawn").catch(() => {});
await says(page, "drawn", "10,001 drawn");
check(await numberOf(page, "drawn", /by ([\d.]+) %/) < Math.max(2, far), "draws come near the target's law");
await page.waitForTimeout(500);
const link = page.url(), drawnWords = await page.locator("#drawn").textContent();
const other = await open(link.slice(url.length), 1280);
await says(other, "drawn", "10,001 drawn");
check(await other.locator("#drawn").textContent() === drawnWords && await value(other, "q", 0) === await value(page, "q", 0), "the address holds the state, draws included");
await other.close();

await downloads(page, ["bars", "growth", "cut", "layout", "histogram", "coupling", "residual"]);
await page.click("#coupling .tools button >> nth=0");
check((await page.locator("#coupling table tbody tr").count()) === 3, "a picture's numbers are a table too");
await inside(page, "one token, desktop");
await accessible(page, "one token, desktop");
await shot(page, "token-desktop");

await enter(page, "#row", "5");
await page.waitForFunction(() => document.querySelectorAll("#bars .bar").length === 16);
check(true, "a recorded position is loaded");
await inside(page, "a recorded position");
await enter(page, "#row", "84");
await says(page, "message", "row 84; there are 84");
check(true, "a position that is not there is refused with words");
await enter(page, "#tokens", "99");
await says(page, "message", "99 is not a number of tokens");
check(true, "so is a number of tokens that is too large");
await page.fill("#text", "Returns the number of elements");
await page.click("#controls button[type=submit]");
await page.waitForFunction(() => document.querySelector("#positions button, #message:not(:empty)") && !document.querySelector("#message").textContent.startsWith("Asking"));
if (await page.locator("#positions button").count()) {
  await page.click("#positions button >> nth=1");
  await page.waitForFunction(() => document.querySelectorAll("#positions button")[1].getAttribute("aria-pressed") === "true");
  check(true, "the laws after a text, at a position of it");
} else {
  check((await page.locator("#message").textContent()).includes("--features lab,candle"), "without the pair a text is refused with what to do");
}

// From a drag to the redrawn page, at 32 tokens: to the page laid out anew, and to the next frame after that.
await page.goto("about:blank");
await page.goto(`${url}#k=4&p=${Array.from({ length: 32 }, (_, i) => 1 / (i + 2)).join(",")}&q=${Array.from({ length: 32 }, (_, i) => 1 / (33 - i)).join(",")}`);
await page.waitForFunction(() => document.querySelectorAll("#bars .bar").length === 64 && document.querySelector("#coupling svg"));
await page.waitForTimeout(600);
await page.evaluate(() => {
  window.laidOut = [];
  window.framed = [];
  let from = null;
  addEventListener("pointermove", (event) => { if (event.buttons) from = event.timeStamp; }, true);
  new PerformanceObserver(() => {
    if (from === null) return;
    const start = from;
    from = null;
    document.body.getBoundingClientRect();
    laidOut.push(performance.now() - start);
    requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel(); port1.onmessage = () => framed.push(performance.now() - start); port2.postMessage(0); });
  }).observe({ entryTypes: ["mark"] });
});
const handle = await page.locator('[data-law="p"][data-token="3"]').boundingBox();
await page.mouse.move(handle.x + handle.width / 2, handle.y + 1);
await page.mouse.down();
for (let i = 0; i < 70; i++) {
  await page.mouse.move(handle.x + handle.width / 2, handle.y - 10 - 25 * Math.abs(Math.sin(i / 4)) - (i % 3));
  // One after the other: an answer that is timed is that of the last move.
  await page.waitForFunction((timed) => framed.length === timed, i + 1);
  await page.waitForTimeout(20 + (i % 17));
}
await page.mouse.up();
const { laidOut, framed } = await page.evaluate(() => ({ laidOut, framed }));
const middle = (times) => times.sort((a, b) => a - b)[times.length >> 1];
const late = (times) => times[Math.floor(times.length * 0.95)];
check(laidOut.length >= 50, `${laidOut.length} drags are timed`);
console.log(`from a drag to all pictures redrawn, 32 tokens: laid out median ${middle(laidOut).toFixed(1)} ms, p95 ${late(laidOut).toFixed(1)} ms; next frame median ${middle(framed).toFixed(1)} ms, p95 ${late(framed).toFixed(1)} ms`);
await inside(page, "32 tokens, desktop");
await page.close();

page = await open("#k=2&p=0.6,0.4&q=0.25,0.75", 390);
await page.waitForFunction(() => document.querySelector("#polytope svg"));
await page.click("#draw-many");
await says(page, "drawn", "1,000 drawn");
await downloads(page, ["polytope"]);
await inside(page, "two tokens, phone");
await accessible(page, "two tokens, phone");
await shot(page, "token-phone");
await page.close();

page = await open("#k=2&p=0.6", 1280);
await says(page, "message", "the link is not whole");
check(true, "a link that was cut off is said to be");
await page.close();

// Whole paths.

page = await open(`paths#${CHAIN}&step=0`, 1280);
await says(page, "sentence", "3 paths of 2 tokens were drafted");
const count = await numberOf(page, "step-number", /of (\d+)/);
check((await page.locator("#tree .node").count()) > 3, "the tree is drawn");
await page.click("#forward");
await says(page, "sentence", "draws a label");
await page.click("#forward");
await says(page, "sentence", "The largest label wins");
check((await page.locator('#tree .node[aria-label*="on the winner"]').count()) === 3, "the winner is marked in the tree");
await page.keyboard.press("ArrowRight");
await says(page, "line", "P = min(1, P·q/a)");
check(true, "an arrow key steps forward, and the numbers are shown");
await page.keyboard.press("ArrowLeft");
await says(page, "sentence", "The largest label wins");
check(true, "and back");
await page.keyboard.press("End");
await says(page, "line", "output:");
check(await numberOf(page, "step-number", /step (\d+)/) === count, "End goes to the last step");
check((await page.locator('#tree .node[aria-label*="kept"]').count()) >= 1, "what is kept is marked");
const output = await page.locator("#line").textContent();
await page.focus('#tree .node[data-node="1"]');
await page.keyboard.press("Enter");
check(await page.locator('#tree .node[data-node="1"]').getAttribute("aria-pressed") === "true", "a node is chosen by the keyboard");
await says(page, "lengths-words", "linear program");
check((await page.locator("#lengths").locator("text=spread").count()) > 0, "every verifier's length is drawn");
await page.waitForTimeout(500);
const again = await open(page.url().slice(url.length), 1280);
await says(again, "line", "output:");
check(await again.locator("#line").textContent() === output && await again.locator('#tree .node[data-node="1"]').getAttribute("aria-pressed") === "true", "the address holds the round, the step and the node");
await again.close();

await page.click("#draw-one");
await says(page, "drawn", "1 drawn");
for (let i = 0; i < 5; i++) await page.click("#draw-many");
await says(page, "drawn", "5,001 drawn");
check(await numberOf(page, "drawn", /by ([\d.]+) %/) < 5, "drawn texts come near the target's law");
await page.selectOption("#verifier", "traversal");
await says(page, "drawn", "Nothing drawn yet");
await page.click("#draw-many");
await says(page, "drawn", "1,000 drawn with traversal");
check(true, "another verifier starts another histogram");
await page.click("#first");
await downloads(page, ["law-0", "tree", "shares", "masses", "outputs", "lengths"]);
await inside(page, "whole paths, desktop");
await page.click("#last");
await accessible(page, "whole paths, desktop");
await shot(page, "paths-desktop");

await page.focus('[data-law="q"][data-token="0"][data-row="at the start"]');
const before = await page.locator("#lengths svg").getAttribute("aria-label");
for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowUp");
await page.waitForFunction((before) => document.querySelector("#lengths svg").getAttribute("aria-label") !== before, before);
check(await value(page, "q", 0, "at the start") === "0.2500", "a bar of the chain is moved, and the lengths follow");
await enter(page, "#row", "9");
await says(page, "message", "recorded round 9; there are 2");
check(true, "a recorded round that is not there is refused with words");
await enter(page, "#row", "1");
await page.waitForFunction(() => document.querySelectorAll("#tree .node").length === 13 && document.querySelector("#lengths-words").textContent.includes("for exactly these drafts"));
check((await page.locator("#message").textContent()) === "", "a recorded round is drawn, and the message is gone");
await inside(page, "a recorded round, desktop");
await page.close();

page = await open(`paths#recorded=0&paths=4&seed=5&step=99`, 390);
await says(page, "line", "output:");
await inside(page, "a recorded round, phone");
await accessible(page, "a recorded round, phone");
await page.close();
page = await open(`paths#${CHAIN}&step=99`, 390);
await says(page, "line", "output:");
await says(page, "lengths-words", "linear program");
await page.click("#draw-many");
await says(page, "drawn", "1,000 drawn");
await inside(page, "whole paths, phone");
await accessible(page, "whole paths, phone");
await shot(page, "paths-phone");

await browser.close();
problems.forEach((problem) => console.error(problem));
process.exit(problems.length ? 1 : 0);
