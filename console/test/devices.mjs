// Measures the list of very many devices: how long until the first row, and whether a row is ever blank while one scrolls to the end.
// Started by browser_test.go with -devices N. Prints a table in Markdown.

import { createRequire } from "node:module";
import assert from "node:assert/strict";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const house = JSON.parse(process.env.HOUSE);
const percentile = (all, p) => [...all].sort((a, b) => a - b)[Math.min(all.length - 1, Math.floor(all.length * p))];

const browser = await chromium.launch({ executablePath: house.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
try {
  const page = await (await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: "en-GB" })).newPage();
  page.setDefaultTimeout(600_000);
  await page.goto(house.api + "/");
  await page.getByRole("tab", { name: "API token" }).click();
  await page.getByLabel("Token").fill(house.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("main h1").waitFor();

  /** From the moment that something is done until the first row of the answer is in the page and painted. */
  const firstRow = (doing) => page.evaluate((what) => new Promise((resolve) => {
    const began = performance.now();
    const hash = what;
    const before = document.querySelector(".rows-space [role=row]");
    new MutationObserver((_, o) => {
      const row = document.querySelector(".rows-space [role=row]");
      if (!row || row === before) return;
      o.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
    }).observe(document.body, { childList: true, subtree: true });
    location.hash = hash;
  }), doing);
  const measure = async (hash, runs) => {
    const all = [];
    for (let i = 0; i < runs; i++) {
      await page.goto(house.api + "/#/groups");
      await page.getByRole("heading", { level: 1, name: "Groups" }).waitFor();
      all.push(await firstRow(hash));
      await page.locator(".rows-space [role=row]").first().waitFor();
    }
    return all;
  };
  const rows = [["first row, whole list", await measure("#/devices", 9)], ["first row, searched", await measure("#/devices?q=m-0777", 9)], ["first row, not read since", await measure("#/devices?not_read_since=2026-01-01T00:00:00Z", 9)]];

  // Scrolls as fast as the list allows, five screens a frame, and looks at each frame that was painted whether all places have a row.
  await page.goto(house.api + "/#/devices");
  await page.locator(".rows-space [role=row]").first().waitFor();
  const scrolled = await page.evaluate(() => new Promise((resolve) => {
    const list = document.querySelector(".rows");
    const box = list.getBoundingClientRect();
    const began = performance.now(), frames = [];
    let blank = 0, looks = 0, last = began, still = 0, top = -1;
    const done = () => /in all/.test(document.querySelector(".rows-foot").textContent) && list.scrollTop + list.clientHeight >= list.scrollHeight - 1;
    const look = () => {
      for (let y = box.top + 40; y < box.bottom - 4; y += 32) {
        looks++;
        if (!document.elementFromPoint(box.left + 40, y)?.closest("[data-index]")) blank++;
      }
      const now = performance.now();
      frames.push(now - last);
      last = now;
      if (list.scrollTop === top) still++;
      top = list.scrollTop;
      if (done()) return resolve({ took: performance.now() - began, frames, blank, looks, waited: still, rows: Math.round(list.scrollHeight / 32) - 1, nodes: document.querySelectorAll(".rows-space [role=row]").length });
      list.scrollTop += 5 * list.clientHeight;
      requestAnimationFrame(() => setTimeout(look));
    };
    look();
  }));

  console.log(`| ${house.devices} devices | median | slowest |\n|---|---|---|`);
  for (const [name, all] of rows) console.log(`| ${name}, ms | ${percentile(all, 0.5).toFixed(0)} | ${Math.max(...all).toFixed(0)} |`);
  console.log(`| a frame while scrolling five screens each, ms | ${percentile(scrolled.frames, 0.5).toFixed(0)} | ${Math.max(...scrolled.frames).toFixed(0)} |`);
  console.log(`\nScrolled to the end of ${scrolled.rows} rows in ${(scrolled.took / 1000).toFixed(1)} s, ${scrolled.frames.length} frames; ${scrolled.blank} of ${scrolled.looks} places were blank; ${scrolled.nodes} rows in the page.`);
  assert.equal(scrolled.blank, 0);
  assert.ok(scrolled.rows >= house.devices, `${scrolled.rows} rows`);
} finally {
  await browser.close();
}
