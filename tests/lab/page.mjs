// The page in a real browser: `node tests/lab/page.mjs URL [FOLDER]`, with playwright-core installed and Chromium at
// /usr/bin/chromium (or $CHROMIUM). Prints what it measured, puts screenshots into FOLDER, ends with 1 if a check fails.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { chromium } = require("playwright-core");
const [url, folder] = process.argv.slice(2);
const problems = [];
const check = (holds, what) => { console.log(`${holds ? "ok" : "FAILED"}: ${what}`); if (!holds) problems.push(what); };

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
page.on("pageerror", (error) => problems.push(String(error)));
page.on("request", (request) => { if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) problems.push(`asked ${request.url()}`); });

await page.goto(`${url}#k=2&p=0.5,0.3,0.2&q=0.2,0.3,0.5`);
await page.waitForFunction(() => document.querySelector("#answer").textContent.includes("86.0 %"));
check(true, "the optimum of the first problem is shown");
if (folder) await page.screenshot({ path: `${folder}/desktop.png`, fullPage: true });

// By the keyboard.
await page.focus('[data-law="p"][data-token="0"]');
await page.keyboard.press("ArrowUp");
await page.waitForFunction(() => document.querySelector('[data-law="p"][data-token="0"]').getAttribute("aria-valuenow") === "0.5100");
check(await page.evaluate(() => document.activeElement.dataset.token === "0"), "an arrow key moves a bar, which keeps the focus");

// Drawing.
await page.click("#draw-many");
await page.waitForFunction(() => document.querySelector("#drawn").textContent.startsWith("1,000 drawn"));
check((await page.locator("#last").textContent()).startsWith("Drafts"), "1,000 draws and the last one in words");
const [download] = await Promise.all([page.waitForEvent("download"), page.click("#layout button")]);
check(download.suggestedFilename() === "draftpick-layout.svg", "a picture downloads as SVG");

// A link brings the state back.
const link = page.url();
const other = await browser.newPage();
await other.goto(link);
await other.waitForFunction(() => document.querySelector('[data-law="p"][data-token="0"]')?.getAttribute("aria-valuenow") === "0.5100");
check(true, "the address holds the state");
await other.close();

// From a drag to the redrawn pictures, at 32 tokens.
await page.fill("#tokens", "32");
await page.locator("#tokens").dispatchEvent("change");
await page.waitForFunction(() => document.querySelectorAll("#bars .bar").length === 64);
const times = await page.evaluate(async () => {
  const times = [];
  for (let i = 0; i < 40; i++) {
    const before = document.querySelector("#coupling svg");
    const start = performance.now();
    document.querySelector('[data-law="p"][data-token="3"]').dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowDown" : "ArrowUp", bubbles: true }));
    while (document.querySelector("#coupling svg") === before) await new Promise((done) => setTimeout(done, 0));
    document.body.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b);
});
console.log(`from a moved bar to all pictures redrawn, 32 tokens: median ${times[20].toFixed(1)} ms, largest ${times[39].toFixed(1)} ms`);

await page.setViewportSize({ width: 390, height: 844 });
await page.goto("about:blank");
await page.goto(`${url}#k=2&p=0.5,0.5&q=0.75,0.25`);
await page.waitForFunction(() => document.querySelector("#polytope svg"));
check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than a phone");
if (folder) await page.screenshot({ path: `${folder}/phone.png`, fullPage: true });

await browser.close();
problems.forEach((problem) => console.error(problem));
process.exit(problems.length ? 1 : 0);
