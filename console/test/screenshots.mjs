// Takes a picture of every page, light and dark, wide and narrow, for docs/screenshots. Started by browser_test.go.

import { createRequire } from "node:module";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const house = JSON.parse(process.env.HOUSE);
await mkdir(house.out, { recursive: true });

const api = async (method, path, body) => {
  const answer = await fetch(house.api + path, { method, headers: { Authorization: "Bearer " + house.token, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};
const ended = async (id) => { let c; do c = await api("GET", `/v1/commands/${id}?wait=30`); while (!c.finished_at); return c; };
const issue = (body) => api("POST", "/v1/commands", { kind: "meter.read", mode: "realtime", ...body });

const billing = await issue({ targets: { group: house.group }, items: ["1-0:1.8.0", "1-0:1.8.1", "1-0:1.8.2", "1-0:2.8.0"] });
await ended(billing.id);
const failed = await ended((await issue({ targets: { device_ids: [house.meter] }, items: ["1-0:99.1.0"] })).id);
await issue({ mode: "async", targets: { device_ids: [house.silent] }, items: ["1-0:1.8.0"] });
const letter = (await api("GET", "/v1/dead-letters?cause=BAD_JSON")).items[0];
const audit = (await api("GET", "/v1/audit?action=group.create")).items[0];

const pages = {
  overview: "#/overview", read: `#/read?group=${house.group}`, command: `#/commands/${billing.id}`, operations: "#/operations",
  "hop-trace": `#/operations?open=${failed.id}/${house.meter}`, devices: "#/devices", device: `#/devices/${house.meter}`, import: "#/devices/import", groups: "#/groups", group: `#/groups/${house.group}`,
  events: "#/events", "dead-letters": `#/dead-letters?open=${letter.id}`, tokens: "#/tokens", audit: `#/audit?open=${audit.id}`,
};
const csv = "id,name,kind,endpoint_id,route\nsite-ipc,Site,ipc,,\nsite m 1,Cellar,meter,site-ipc,\"[{\"\"bus\"\":\"\"com1\"\"}]\"\nsite-m-2,Attic,valve,site-ipc,\nsite-m-3,Roof,meter,site-ipc,\n";

const browser = await chromium.launch({ executablePath: house.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"] });
let bytes = 0;
try {
  for (const [width, height] of [[1440, 900], [390, 844]]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: { width, height }, colorScheme, locale: "en-GB" });
      const page = await context.newPage();
      const devtools = await context.newCDPSession(page);
      const shoot = async (name) => {
        await page.waitForLoadState("networkidle");
        await page.mouse.move(0, 0);
        const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: 82 });
        const file = Buffer.from(data, "base64");
        bytes += file.length;
        await writeFile(join(house.out, `${name}-${width}-${colorScheme}.webp`), file);
      };
      await page.goto(house.api + "/");
      await page.getByRole("tab", { name: "API token" }).click();
      await shoot("sign-in");
      await page.getByLabel("Token").fill(house.token);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.locator("main h1").waitFor();
      for (const [name, hash] of Object.entries(pages)) {
        await page.goto(house.api + "/" + hash);
        await page.locator("main h1").waitFor();
        await page.locator(".loading").first().waitFor({ state: "detached" });
        if (name === "import") {
          await page.getByLabel("CSV file").setInputFiles({ name: "site.csv", mimeType: "text/csv", buffer: Buffer.from(csv) });
          await page.getByRole("alert").waitFor();
        }
        if (name === "read") await page.getByRole("button", { name: /^Daily billing/ }).click();
        await shoot(name);
      }
      await page.goto(house.api + "/#/overview");
      if (width < 500) await page.getByRole("button", { name: "Menu" }).click();
      await page.getByRole("button", { name: "中文" }).click();
      await page.getByRole("heading", { level: 1, name: "总览" }).waitFor();
      await page.locator(".chart canvas").first().waitFor();
      await shoot("overview-zh");
      await context.close();
    }
  }
} finally {
  await browser.close();
}
console.log(`${(bytes / 1e6).toFixed(2)} MB`);
