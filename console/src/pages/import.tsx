// Import of devices: what is in the file is looked at here, line by line, before anything is sent; the server looks again, and takes
// all of it or nothing.

import { useState } from "preact/hooks";
import { call, type FieldError } from "../api";
import { fromCSV } from "../csv";
import { useDoing } from "../data";
import { count } from "../format";
import { t } from "../i18n";
import { to } from "../route";
import { can } from "../session";
import { Button, Code, Empty, Field, LinkButton, Page, Panel, ProblemBox } from "../ui";

const columns = ["id", "name", "kind", "endpoint_id", "route", "tags", "groups", "enabled", "secret"];
const example = `id,name,kind,endpoint_id,route,tags,groups
plant-ipc-1,Plant 1,ipc,,,,
plant-m-001,Cellar,meter,plant-ipc-1,"[{""bus"":""com1"",""baud"":2400},{""meter"":""000012345678"",""protocol"":""dlt645-2007""}]","{""site"":""north""}",
`;

type Complaint = { line: number; column: string; detail: string };
type Looked = { text: string; name: string; header: string[]; rows: { line: number; cells: string[] }[]; wrong: Complaint[] };
type Report = { created: number; updated: number; without_credentials: number };

// So many lines are shown, and so many complaints.
const shownMost = 200;

export function ImportPage() {
  const [looked, setLooked] = useState<Looked>();
  const [report, setReport] = useState<Report>();
  const [typed, setTyped] = useState("");
  const { doing, problem, run, setProblem } = useDoing();
  const take = (text: string, name: string) => { setProblem(undefined); setReport(undefined); setLooked(look(text, name)); };
  const choose = async (f: File | undefined) => { if (f) take(await f.text(), f.name); };
  const send = () => run(async () => {
    setReport(await call<Report>("POST", "/v1/devices/import", { raw: looked!.text, type: "text/csv; charset=utf-8" }));
    setLooked(undefined);
    setTyped("");
  });
  if (!can("fleet:write")) return <Page title={t("import.title")}><Empty title={t("problem.403")}><p>{t("forbidden.text", { name: "", scopes: "fleet:write" })}</p></Empty></Page>;
  const fromServer = (problem?.fields ?? []).map(complaintOf);
  return (
    <Page title={t("import.title")} actions={<LinkButton href={to("devices")}>{t("nav.devices")}</LinkButton>}>
      {report && (
        <div class="note ok" role="status" id="imported">
          {t("import.done", { created: count(report.created), updated: count(report.updated) })}
          {report.without_credentials > 0 && <> {t("import.no-secret", { n: count(report.without_credentials) })}</>}
        </div>
      )}
      <Panel title={t("import.file")}>
        <div class="form">
          <Field label={t("import.choose")} hint={t("import.hint")}><input type="file" name="file" accept=".csv,text/csv" onChange={(e) => void choose(e.currentTarget.files?.[0])} /></Field>
          <details open={typed !== ""}>
            <summary>{t("import.paste")}</summary>
            <div class="form"><textarea class="mono" name="text" rows={6} aria-label={t("import.paste")} value={typed} placeholder={example} onInput={(e) => setTyped(e.currentTarget.value)} />
              <div class="actions"><Button disabled={!typed.trim()} onClick={() => take(typed, t("import.pasted"))}>{t("import.look")}</Button><Button kind="plain" onClick={() => setTyped(example)}>{t("import.example")}</Button></div></div>
          </details>
        </div>
      </Panel>
      {looked && (
        <Panel title={t("import.preview", { name: looked.name, n: count(looked.rows.length) })} actions={<Button kind="primary" busy={doing} disabled={looked.wrong.length > 0 || looked.rows.length === 0} onClick={send}>{t("import.send", { n: count(looked.rows.length) })}</Button>}>
          <div class="stack">
            {looked.wrong.length > 0 ? <Complaints all={looked.wrong} title={t("import.wrong", { n: count(looked.wrong.length) })} /> : !problem && <p class="note ok">{t("import.right")}</p>}
            {problem && fromServer.length > 0 ? <Complaints all={fromServer} title={t("import.refused")} /> : <ProblemBox problem={problem} />}
            <Preview looked={looked} wrong={[...looked.wrong, ...fromServer]} />
          </div>
        </Panel>
      )}
    </Page>
  );
}

/** "/12/kind" as the server says it. */
function complaintOf(f: FieldError): Complaint {
  const [, line, column] = f.pointer.split("/");
  return { line: Number(line) || 0, column: column ?? "", detail: f.detail };
}

function Complaints({ all, title }: { all: Complaint[]; title: string }) {
  return (
    <div class="problem" role="alert">
      <p class="problem-title">{title}</p>
      <table class="table"><thead><tr><th>{t("line")}</th><th>{t("column")}</th><th>{t("import.what")}</th></tr></thead><tbody>
        {all.slice(0, shownMost).map((c) => <tr><td class="num">{c.line || "–"}</td><td><Code>{c.column || "–"}</Code></td><td>{c.detail}</td></tr>)}
      </tbody></table>
      {all.length > shownMost && <p>{t("import.more", { n: count(all.length - shownMost) })}</p>}
    </div>
  );
}

function Preview({ looked, wrong }: { looked: Looked; wrong: Complaint[] }) {
  const bad = new Set(wrong.map((c) => c.line));
  const rows = [...looked.rows.filter((r) => bad.has(r.line)).slice(0, 50), ...looked.rows.filter((r) => !bad.has(r.line)).slice(0, 50)].sort((a, b) => a.line - b.line);
  return (
    <div class="panel flush"><div class="panel-body">
      <table class="table"><thead><tr><th class="right">{t("line")}</th>{looked.header.map((h) => <th>{h}</th>)}</tr></thead><tbody>
        {rows.map((r) => (
          <tr><td class="right num">{r.line}</td>{looked.header.map((h, i) => <td class={`mono ${wrong.some((c) => c.line === r.line && c.column === h) ? "bad-text" : ""}`}>{h === "secret" && r.cells[i] ? "•••" : r.cells[i] ?? ""}</td>)}</tr>
        ))}
      </tbody></table>
      {looked.rows.length > rows.length && <p class="mute small import-rest">{t("import.rest", { n: count(looked.rows.length - rows.length) })}</p>}
    </div></div>
  );
}

/** Finds what the server would refuse for certain. What only it can know (an IPC that does not exist) it says itself. */
function look(text: string, name: string): Looked {
  const { rows: all, open } = fromCSV(text);
  const header = (all.shift()?.cells ?? []).map((h) => h.trim());
  const wrong: Complaint[] = [];
  if (open) wrong.push({ line: open, column: "", detail: t("import.open-quote") });
  header.forEach((h, i) => {
    if (!columns.includes(h)) wrong.push({ line: 1, column: h, detail: t("import.no-column", { columns: columns.join(", ") }) });
    if (header.indexOf(h) !== i) wrong.push({ line: 1, column: h, detail: t("import.twice") });
  });
  for (const must of ["id", "kind"]) if (!header.includes(must)) wrong.push({ line: 1, column: must, detail: t("import.must") });
  const at = Object.fromEntries(columns.map((c) => [c, header.indexOf(c)]));
  const seen = new Map<string, number>();
  for (const r of all) {
    const cell = (c: string) => (at[c] >= 0 ? r.cells[at[c]] ?? "" : "");
    const say = (column: string, detail: string) => wrong.push({ line: r.line, column, detail });
    if (r.cells.length !== header.length) { say("", t("import.cells", { n: r.cells.length, want: header.length })); continue; }
    const id = cell("id"), kind = cell("kind");
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(id)) say("id", t("devices.id-hint"));
    else if (seen.has(id)) say("id", t("import.again", { line: seen.get(id)! }));
    seen.set(id, r.line);
    if (!["direct", "ipc", "meter"].includes(kind)) say("kind", "direct, ipc, meter");
    if (kind === "meter" && !cell("endpoint_id")) say("endpoint_id", t("import.needs-ipc"));
    if (kind === "meter" && !cell("route")) say("route", t("import.needs-route"));
    if (cell("route") && !jsonIs(cell("route"), Array.isArray)) say("route", t("import.json-list"));
    if (cell("tags") && !jsonIs(cell("tags"), (v) => typeof v === "object" && v !== null && !Array.isArray(v))) say("tags", t("import.json-object"));
    if (cell("enabled") && !/^(true|false)$/.test(cell("enabled"))) say("enabled", "true, false");
  }
  return { text, name, header, rows: all, wrong };
}

function jsonIs(text: string, is: (v: unknown) => boolean): boolean {
  try { return is(JSON.parse(text)); } catch { return false; }
}
