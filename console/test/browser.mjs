// Drives the page in Chromium: signs in, imports devices, reads them live, follows a hop trace, loses the server and finds it again,
// replays a dead letter, switches the language. On every page: nothing on the console, no breach of the policy, nothing from elsewhere.
// Waits for what is to be seen, never for a time. Started by browser_test.go, which says in HOUSE where everything is.

import { createRequire } from "node:module";
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { readFile } from "node:fs/promises";

const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");
const { source: axe } = require("axe-core");
const house = JSON.parse(process.env.HOUSE);
const patience = Number(process.env.PATIENCE ?? 60_000); // only a test that fails waits so long

// The way to the server leads through here, so that it can be cut.
const way = await new Promise((resolve) => {
  const open = new Set();
  let cut = false;
  const server = createServer((from) => {
    if (cut) return from.destroy();
    const to = connect(Number(new URL(house.api).port), "127.0.0.1");
    for (const [a, b] of [[from, to], [to, from]]) {
      open.add(a);
      a.pipe(b);
      a.on("error", () => b.destroy());
      a.on("close", () => { open.delete(a); b.destroy(); });
    }
  });
  server.listen(0, "127.0.0.1", () => resolve({
    base: `http://127.0.0.1:${server.address().port}`,
    cut() { cut = true; for (const s of open) s.destroy(); },
    heal() { cut = false; },
    close() { cut = true; for (const s of open) s.destroy(); server.close(); },
  }));
});

const browser = await chromium.launch({ executablePath: house.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
const wrong = [];

/** A browser of somebody's own, in which everything that goes wrong is noted. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: "en-GB", acceptDownloads: true, ...options });
  context.setDefaultTimeout(patience);
  await context.addInitScript(() => addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`)));
  const page = await context.newPage();
  page.lostOnPurpose = false;
  const onPurpose = (text) => (page.lostOnPurpose && /ERR_/.test(text)) || (page.refusedOnPurpose && /status of 422/.test(text));
  page.on("console", (m) => { if (["error", "warning"].includes(m.type()) && !onPurpose(m.text())) wrong.push(`${page.url()}: ${m.text()}`); });
  page.on("pageerror", (e) => wrong.push(`${page.url()}: ${e.stack}`));
  page.on("request", (r) => { if (!r.url().startsWith(way.base) && !r.url().startsWith("blob:")) wrong.push(`${page.url()} asks for ${r.url()}`); });
  return page;
}

let began = Date.now();
/** One thing to show; its name says where it broke. */
async function step(name, f) {
  try {
    await f();
  } catch (e) {
    console.log(`FAILED  ${name}`);
    for (const p of browser.contexts().flatMap((c) => c.pages())) console.log(`${p.url()}\n${await p.locator("body").innerText().catch(() => "")}`);
    throw e;
  }
  console.log(`ok  ${((Date.now() - began) / 1000).toFixed(1)} s  ${name}`);
  began = Date.now();
}

/** Whoever does not see, or uses no mouse: the rules of WCAG 2 A and AA that a program can judge. */
async function accessible(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes: ["violations"] }));
  assert.ok(found.passes.length >= 10, `only ${found.passes.length} rules applied to ${page.url()}`);
  for (const v of found.violations) for (const n of v.nodes) wrong.push(`${page.url()}: ${v.id}: ${n.html.slice(0, 160)} ${n.failureSummary.replace(/\s+/g, " ").slice(0, 200)}`);
}

const go = (page, hash, heading) => Promise.all([page.goto(way.base + "/" + hash), page.getByRole("heading", { level: 1, name: heading }).waitFor()]);
const rowsOf = (page) => page.locator(".rows-space [role=row]");
const download = async (page, button) => {
  const [d] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: button }).click()]);
  return (await readFile(await d.path(), "utf8")).trim().split(/\r?\n/);
};

async function signIn(page, token) {
  await page.goto(way.base + "/");
  await page.getByRole("tab", { name: "API token" }).click();
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("main h1").waitFor();
}

try {
  const page = await open();

  await step("sign in with a name and a password", async () => {
    await page.goto(way.base + "/#/operations?state=failed");
    await page.getByLabel("Name").fill(house.user);
    await page.getByLabel("Password").fill(house.password);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "Operations" }).waitFor(); // where one wanted to go
    await page.getByText("No operation is like that").waitFor();
    const [cookie] = await page.context().cookies();
    assert.equal(cookie.name, "__Host-meterline");
    assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === "Strict", JSON.stringify(cookie));
    assert.equal(await page.evaluate(() => document.cookie), "");
  });

  await step("overview", async () => {
    await go(page, "#/overview", "Overview");
    await page.getByText("Endpoints online").waitFor();
    await page.locator(".chart canvas").first().waitFor();
    await page.getByRole("row").filter({ hasText: "gateway-1" }).getByText("alive").waitFor();
  });

  await step("import devices: errors are shown by line, then it is done", async () => {
    await go(page, "#/devices", "Devices");
    await page.getByRole("link", { name: "Import" }).click();
    const hop = '"[{""bus"":""com1""}]"';
    const file = (lines) => ({ name: "fleet.csv", mimeType: "text/csv", buffer: Buffer.from("id,name,kind,endpoint_id,route\n" + lines.join("\n") + "\n") });
    await page.getByLabel("CSV file").setInputFiles(file(["new-ipc,Plant,ipc,,", "new m 1,Cellar,meter,new-ipc," + hop, 'new-m-2,Attic,meter,new-ipc,"[{"', "new-ipc,again,ipc,,"]));
    const complaints = page.getByRole("alert").getByRole("row");
    await page.getByText("3 things have to be mended").waitFor();
    assert.deepEqual((await complaints.allTextContents()).slice(1).map((x) => x.slice(0, 7)), ["3id1 to", "4routem", "5idis o"]);
    assert.ok(await page.getByRole("button", { name: /^Import/ }).isDisabled());
    // What only the server can know it says, by line as well.
    await page.getByLabel("CSV file").setInputFiles(file(["new-m-1,Cellar,meter,no-such-ipc," + hop]));
    page.refusedOnPurpose = true; // browsers log a 422
    await page.getByRole("button", { name: "Import 1" }).click();
    await page.getByText("The server took nothing of it").waitFor();
    page.refusedOnPurpose = false;
    await page.getByLabel("CSV file").setInputFiles(file(["new-ipc,Plant,ipc,,", "new-m-1,=1+1<img src=x>,meter,new-ipc," + hop, "new-m-2,Attic,meter,new-ipc," + hop]));
    await page.getByRole("button", { name: "Import 3" }).click();
    await page.getByText("3 devices were created, 0 updated.").waitFor();
  });

  await step("devices: search, and one by keyboard", async () => {
    await go(page, "#/devices", "Devices");
    await page.getByLabel("Search").fill("new-");
    await page.locator(".rows-foot").getByText("3 in all").waitFor();
    assert.equal(new URL(page.url()).hash, "#/devices?q=new-");
    await page.getByText("=1+1<img src=x>").waitFor(); // as text
    await rowsOf(page).first().getByRole("link").focus();
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction(() => document.activeElement.textContent === "new-m-1");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "=1+1<img src=x>" }).waitFor();
    await page.getByText("It was never read").waitFor();
  });

  let command;
  await step("read a group now: live to the readings", async () => {
    await go(page, "#/read", "Read now");
    await page.getByRole("button", { name: "Group", exact: true }).click();
    await page.getByRole("combobox", { name: "Group" }).selectOption(house.group);
    await page.getByRole("button", { name: /^Daily billing/ }).click();
    assert.equal(await page.locator(".picker input:checked").count(), 4);
    await page.getByLabel("Bus time of one item, s").fill("9");
    await page.getByLabel("Bus time of one item, s").blur();
    await page.getByText("There is not enough time").waitFor();
    await page.getByLabel("Bus time of one item, s").fill("0.1");
    await page.getByLabel("Bus time of one item, s").blur();
    await page.getByText("There is not enough time").waitFor({ state: "detached" });
    const [stream] = await Promise.all([page.waitForRequest(/\/events$/), page.getByRole("button", { name: "Read now" }).click()]);
    command = /commands\/([^/]+)\/events/.exec(stream.url())[1];
    await page.locator(`.legend [data-state=succeeded] strong`).filter({ hasText: new RegExp(`^${house.meters}$`) }).waitFor();
    await page.locator(".page-head .s-succeeded").waitFor();
    assert.equal(await rowsOf(page).count(), house.meters);
    assert.match(await rowsOf(page).first().textContent(), /succeeded.*kWh/);
    const csv = await download(page, "Result as CSV");
    assert.equal(csv[0], "device,route,item,value,unit,read_at,state,code");
    assert.equal(csv.length, 1 + 4 * house.meters);
  });

  await step("retry what failed", async () => {
    await go(page, "#/read?devices=" + house.meter, "Read now");
    await page.locator(".picker.columns input:checked").uncheck();
    await page.getByLabel(/^Another item/).fill("1-0:99.1.0");
    await page.keyboard.press("Enter");
    await page.getByText(/^1 devices/).waitFor();
    await page.getByRole("button", { name: "Read now" }).click();
    await page.locator(".page-head .s-failed").waitFor();
    await page.getByRole("button", { name: "Retry what failed (1)" }).click();
    await page.getByText("Retry of").waitFor();
    await page.locator(".page-head .s-failed").waitFor();
  });

  await step("operations: filter, follow a hop trace, export", async () => {
    await go(page, "#/operations", "Operations");
    await page.getByLabel("State").selectOption("failed");
    await page.locator(".rows-foot").getByText("2 in all").waitFor();
    assert.equal(new URL(page.url()).hash, "#/operations?state=failed");
    await page.getByLabel("Code").fill("NO_SUCH_ITEM");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash.includes("code=NO_SUCH_ITEM"));
    await rowsOf(page).first().click();
    const trace = page.locator(".trace .hop");
    await trace.last().waitFor();
    const states = await trace.evaluateAll((all) => all.map((x) => x.dataset.state));
    assert.deepEqual([states[0], states[1], states.at(-1)], ["queued", "sent", "failed"]);
    assert.equal(await page.locator(".trace .gap").count(), states.length - 1);
    assert.match(await page.locator(".trace .gap").first().textContent(), /\d (ms|s)$/);
    await page.locator(".drawer").getByText("The endpoint has acknowledged it").waitFor();
    const csv = await download(page, "Export CSV");
    assert.equal(csv.length, 3);
    await page.getByRole("button", { name: "Close" }).click();
    await page.locator(".trace").waitFor({ state: "detached" });
    await go(page, `#/operations?command_id=${command}`, "Operations");
    await page.locator(".rows-foot").getByText(`${house.meters} in all`).waitFor();
  });

  await step("a name that a spreadsheet would take for a formula is guarded", async () => {
    await go(page, "#/read?devices=new-m-1", "Read now");
    await page.getByRole("button", { name: "asynchronous" }).click();
    await page.getByRole("button", { name: "Read now" }).click();
    await rowsOf(page).getByText("queued").waitFor();
    await go(page, "#/operations?device_id=new-m-1", "Operations");
    await page.locator(".rows-foot").getByText("1 in all").waitFor();
    const csv = await download(page, "Export CSV");
    assert.match(csv[1], /,new-m-1,'=1\+1<img src=x>,new-ipc,queued,never_sent,0,/);
  });

  await step("no answer came: the same again is not done twice", async () => {
    await go(page, "#/read?devices=" + house.meter, "Read now");
    await page.getByText(/^1 devices/).waitFor();
    await page.route("**/v1/commands", async (route) => {
      const asked = route.request();
      const answer = await fetch(asked.url(), { method: "POST", headers: await asked.allHeaders(), body: asked.postData() });
      assert.equal(answer.status, 202);
      await route.abort();
    }, { times: 1 });
    page.lostOnPurpose = true;
    await page.getByRole("button", { name: "Read now" }).click();
    await page.getByRole("alert").getByText("The server does not answer").waitFor();
    page.lostOnPurpose = false;
    const [again] = await Promise.all([page.waitForResponse((r) => r.url().endsWith("/v1/commands") && r.request().method() === "POST"), page.getByRole("button", { name: "Read now" }).click()]);
    assert.equal(again.headers()["idempotent-replayed"], "true");
    await page.locator(".page-head .s-succeeded").waitFor();
  });

  await step("the server is lost: what was there is marked; the stream goes on where it was; cancel", async () => {
    await go(page, "#/read?devices=" + house.silent, "Read now");
    await page.getByRole("button", { name: "asynchronous" }).click();
    await page.getByRole("button", { name: "Read now" }).click();
    await page.getByText("live", { exact: true }).waitFor();
    await page.locator(`.legend [data-state=queued]`).waitFor();
    await rowsOf(page).getByText("queued").waitFor();
    const resumed = page.waitForRequest((r) => r.url().endsWith("/events") && r.headers()["last-event-id"] !== undefined);
    page.lostOnPurpose = true;
    way.cut();
    await page.getByText(/The server has not answered for/).waitFor();
    await page.getByText(/^as of .* old$/).first().waitFor();
    await rowsOf(page).getByText("queued").waitFor(); // still there
    way.heal();
    await page.getByText(/The server has not answered for/).waitFor({ state: "detached" });
    page.lostOnPurpose = false;
    await resumed;
    await page.getByText("live", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Cancel the command" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel the command" }).click();
    await page.locator(".page-head .s-cancelled").waitFor();
    await rowsOf(page).first().click();
    await page.getByText("It was never sent").waitFor();
  });

  await step("dead letters: look, replay, discard", async () => {
    await go(page, "#/dead-letters", "Dead letters");
    await page.getByRole("button", { name: /^BAD_JSON/ }).click();
    await rowsOf(page).first().click();
    await page.locator("pre").filter({ hasText: "<script>" }).waitFor(); // as text
    await page.getByRole("button", { name: "Replay", exact: true }).click();
    await page.locator(".drawer").getByText("replayed").waitFor();
    await page.getByText("a dead letter again (1)").first().waitFor();
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByRole("button", { name: "Discard all" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Discard" }).click();
    await page.getByText(/^\d+ discarded$/).waitFor();
    await page.getByText("No dead letter is like that").waitFor();
  });

  await step("groups, events, tokens, audit, a device of the simulator", async () => {
    await go(page, "#/groups", "Groups");
    await page.getByRole("link", { name: house.group }).click();
    await page.getByRole("heading", { level: 1, name: house.group }).waitFor();
    await rowsOf(page).first().waitFor();
    await go(page, "#/events?type=alarm", "Events and alarms");
    await page.getByText("COVER_OPEN").waitFor();
    await go(page, "#/devices/" + house.meter, house.meter);
    await page.locator(".chart canvas").waitFor();
    await page.locator(".panel").filter({ hasText: "Latest readings" }).getByText("1-0:1.8.0").waitFor();
    await go(page, "#/tokens", "Tokens");
    await page.getByRole("button", { name: "New token" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("reports");
    await page.getByRole("button", { name: "Create" }).click();
    assert.match(await page.locator(".secret code").textContent(), /^mtl_/);
    await page.getByRole("button", { name: "Close" }).last().click();
    await rowsOf(page).filter({ hasText: "reports" }).waitFor();
    await go(page, "#/audit?action=device.import", "Audit");
    await rowsOf(page).filter({ hasText: house.user }).first().click();
    await page.locator(".diff").waitFor();
    await go(page, "#/no-such-page", "Not found");
  });

  await step("every page is accessible, light and dark", async () => {
    const all = ["overview", `read?group=${house.group}`, `commands/${command}`, "operations?state=failed", `operations?open=${command}/${house.meter}`, "devices", `devices/${house.meter}`, "devices/import", "groups", `groups/${house.group}`, "events", "dead-letters?status=all", "tokens", "audit"];
    const colours = all.filter((_, i) => i % 4 === 0); // what is special about the dark is its colours, and those are the same names everywhere
    for (const [look, pages] of [["light", all], ["dark", colours]]) {
      await page.emulateMedia({ colorScheme: look });
      for (const p of pages) {
        await page.goto(`${way.base}/#/${p}`);
        await page.locator("main h1").waitFor();
        await page.locator(".loading").first().waitFor({ state: "detached" });
        await accessible(page);
      }
    }
    await page.emulateMedia({ colorScheme: null });
  });

  await step("language and theme", async () => {
    await go(page, "#/operations", "Operations");
    await page.getByRole("button", { name: "中文" }).click();
    await page.getByRole("heading", { level: 1, name: "操作记录" }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
    await rowsOf(page).first().waitFor();
    await page.getByRole("button", { name: "深色" }).click();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    await page.reload(); // both are kept, and so is the session
    await page.getByRole("heading", { level: 1, name: "操作记录" }).waitFor();
    await page.getByRole("button", { name: "English" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in" }).waitFor();
  });

  await step("who may not is told so, on a narrow screen too", async () => {
    const other = await open({ viewport: { width: 390, height: 844 } });
    await signIn(other, house.viewer);
    await other.getByRole("button", { name: "Menu" }).click();
    await other.getByRole("link", { name: "Tokens" }).click();
    await other.getByRole("link", { name: "Tokens" }).waitFor({ state: "hidden" });
    await other.getByText("This page needs rights that you do not have").waitFor();
    await go(other, "#/read", "Read now");
    await other.getByText("You may look, but not send").waitFor();
    await go(other, "#/devices", "Devices");
    await rowsOf(other).first().waitFor();
    assert.equal(await other.getByRole("button", { name: "New device" }).count(), 0);
    for (const p of ["#/overview", "#/operations", "#/devices", "#/devices/" + house.meter, "#/read", "#/dead-letters"]) {
      await other.goto(way.base + "/" + p);
      await other.getByRole("heading", { level: 1 }).waitFor();
      assert.ok(await other.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("main").scrollWidth <= innerWidth), `${p} is wider than the screen`);
    }
  });

  assert.equal([...new Set(wrong)].join("\n"), "");
} finally {
  await browser.close();
  way.close();
}
