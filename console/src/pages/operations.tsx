// The operations: filters that live in the address, a list, and one operation with its hop trace beside it.

import { useEffect, useRef, useState } from "preact/hooks";
import { call, get, type Query } from "../api";
import { save, toCSV } from "../csv";
import { useAsk, useDoing, usePages } from "../data";
import { count, fromLocalInput, localInput, span } from "../format";
import { t, type Key } from "../i18n";
import { setParams, to, useRoute, type Params } from "../route";
import { Rows, type Column } from "../rows";
import { can } from "../session";
import { OperationDetail } from "../trace";
import { kinds, states, type List, type Operation } from "../types";
import { Button, Code, DeviceLink, Empty, ErrorCode, Field, FilterBar, LazyInput, Loading, Page, Panel, ProblemBox, Select, StateBadge, Time, useNarrow } from "../ui";

const filters = ["state", "kind", "device_id", "endpoint_id", "group", "code", "command_id", "from", "to"] as const;

export const began = (o: Operation) => o.moves?.[0]?.at ?? o.updated_at;
export const lasted = (o: Operation) => Date.parse(o.updated_at) - Date.parse(began(o));

/** What an operation brought, in short. */
export function Brought({ o }: { o: Operation }) {
  if (o.error) return <ErrorCode code={o.error.code} />;
  if (o.readings.length === 0) return <span class="mute">–</span>;
  const r = o.readings[0];
  return <span class="num"><strong>{r.value}</strong> {r.unit}{o.readings.length > 1 && <span class="mute"> +{o.readings.length - 1}</span>}</span>;
}

const columns: Column<Operation>[] = [
  { id: "at", title: "", width: "148px", wide: true, cell: (o) => <Time at={began(o)} /> },
  { id: "device", title: "", width: "minmax(110px, 1.4fr)", cell: (o) => <a class="mono" href={to("operations", { ...current(), open: key(o) })}>{o.device_id}</a> },
  { id: "name", title: "", width: "minmax(90px, 1fr)", wide: true, cell: (o) => (o.device.name === o.device_id ? <span class="mute">–</span> : o.device.name) },
  { id: "endpoint", title: "", width: "minmax(100px, 1fr)", wide: true, cell: (o) => <Code>{o.device.endpoint_id}</Code> },
  { id: "state", title: "", width: "98px", cell: (o) => <StateBadge state={o.state} /> },
  { id: "brought", title: "", width: "minmax(88px, 1fr)", cell: (o) => <Brought o={o} /> },
  { id: "delivery", title: "", width: "104px", wide: true, cell: (o) => <span class="small">{t(("delivery." + o.delivery) as Key)}</span> },
  { id: "attempts", title: "", width: "64px", wide: true, right: true, cell: (o) => o.attempts },
  { id: "took", title: "", width: "78px", wide: true, right: true, cell: (o) => span(lasted(o)) },
];
const key = (o: Operation) => o.command_id + "/" + o.device_id;
let now: Params = {};
const current = () => now;

export function OperationsPage() {
  const { params } = useRoute();
  now = params;
  const q: Query = Object.fromEntries(filters.map((f) => [f, params[f] ?? ""]));
  const pages = usePages<Operation>("/v1/operations", q);
  const narrow = useNarrow();
  const [command, device] = (params.open ?? "").split(/\/(.*)/s);
  const titles = columns.map((c) => ({ ...c, title: t(("operations." + c.id) as Key) }));
  const shown = params.open && !narrow ? titles.filter((c) => !["name", "delivery", "attempts", "endpoint"].includes(c.id)) : titles;
  const filtered = filters.some((f) => params[f]);
  return (
    <Page fill title={t("nav.operations")} actions={<><Button icon="refresh" onClick={pages.again}>{t("refresh")}</Button><Export q={q} /></>}>
      <Filters params={params} />
      <div class={params.open ? "split open" : "split"}>
        <Rows label={t("nav.operations")} pages={pages} columns={shown} rowKey={key} selected={params.open} href={(o) => to("operations", { ...params, open: key(o) })}
          empty={filtered ? <Empty title={t("operations.none-match")}><Button onClick={() => clear(params)}>{t("clear-filters")}</Button></Empty> : <Empty title={t("operations.none")}>{can("commands:write") && <a class="btn primary" href={to("read")}>{t("nav.read")}</a>}</Empty>} />
        {device && <Detail command={command} device={device} />}
      </div>
    </Page>
  );
}

const clear = (params: Params) => setParams(Object.fromEntries(Object.keys(params).map((k) => [k, ""])));

function Filters({ params }: { params: Params }) {
  const set = (name: string) => (value: string) => setParams({ [name]: value, open: "" });
  const quick = (hours: number) => () => setParams({ from: new Date(Math.floor(Date.now() / 60_000) * 60_000 - hours * 3_600_000).toISOString(), to: "", open: "" });
  const text = (name: string, label: Key) => <Field label={t(label)}><LazyInput class="mono" value={params[name] ?? ""} onValue={set(name)} name={name} maxLength={128} /></Field>;
  return (
    <FilterBar active={filters.filter((f) => params[f]).length}>
      <Field label={t("state")}><Select name="state" value={params.state ?? ""} all={t("all")} options={states.map((s) => [s, t(("state." + s) as Key)])} onChange={set("state")} /></Field>
      <Field label={t("kind")}><Select name="kind" value={params.kind ?? ""} all={t("all")} options={kinds.map((k) => [k, t(("kind." + k) as Key)])} onChange={set("kind")} /></Field>
      {text("device_id", "device")}{text("endpoint_id", "endpoint")}{text("group", "group")}{text("code", "code")}{text("command_id", "command")}
      <Field cls="date" label={t("from")}><input type="datetime-local" name="from" value={localInput(params.from ?? "")} onChange={(e) => set("from")(fromLocalInput(e.currentTarget.value))} /></Field>
      <Field cls="date" label={t("to")}><input type="datetime-local" name="to" value={localInput(params.to ?? "")} onChange={(e) => set("to")(fromLocalInput(e.currentTarget.value))} /></Field>
      <div class="actions">
        <button type="button" class="chip" onClick={quick(1)}>{t("last-hour")}</button><button type="button" class="chip" onClick={quick(24)}>{t("last-day")}</button>
        {filters.some((f) => params[f]) && <button type="button" class="chip" onClick={() => clear(params)}>{t("clear-filters")}</button>}
      </div>
    </FilterBar>
  );
}

function Detail({ command, device }: { command: string; device: string }) {
  const [over, setOver] = useState(false);
  useEffect(() => setOver(false), [command, device]);
  const a = useAsk(`${command}/${device}`, async (signal) => (await get<List<Operation>>("/v1/operations", { command_id: command, device_id: device }, signal)).items[0] ?? null, over ? 0 : 2000);
  const o = a.data;
  useEffect(() => { if (o && !["queued", "sent", "delivered", "accepted"].includes(o.state)) setOver(true); }, [o]);
  const close = () => setParams({ open: "" });
  return (
    <Panel cls="drawer" title={<DeviceLink id={device} />} actions={<Button kind="plain" icon="close" label={t("close")} onClick={close} />}>
      {o ? <OperationDetail o={o} changed={a.again} /> : a.error ? <ProblemBox problem={a.error} again={a.again} /> : a.loading ? <Loading /> : <Empty title={t("operations.gone")} />}
    </Panel>
  );
}

// What one export may hold: a spreadsheet takes a million lines, a browser's memory less.
const exportMost = 100_000;

/** Writes what the filters leave to CSV, page by page. */
function Export({ q }: { q: Query }) {
  const { doing, problem, run } = useDoing();
  const [done, setDone] = useState(0);
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);
  const start = () => run(async () => {
    stop.current = new AbortController();
    const { signal } = stop.current;
    const lines = [["created_at", "command_id", "device_id", "name", "endpoint_id", "state", "delivery", "attempts", "code", "message", "item", "value", "unit", "read_at", "updated_at"]];
    let cursor: string | null = "", n = 0;
    setDone(0);
    try {
      while (cursor !== null && n < exportMost) {
        const page: List<Operation> = await call("GET", "/v1/operations", { query: { ...q, limit: 1000, cursor }, signal });
        for (const o of page.items) {
          const head = [began(o), o.command_id, o.device_id, o.device.name, o.device.endpoint_id, o.state, o.delivery, String(o.attempts), o.error?.code ?? "", o.error?.message ?? ""];
          if (o.readings.length === 0) lines.push([...head, "", "", "", "", o.updated_at]);
          for (const r of o.readings) lines.push([...head, r.item, r.value, r.unit, r.read_at, o.updated_at]);
        }
        setDone(n += page.items.length);
        cursor = page.next_cursor;
      }
    } catch (e) {
      if (signal.aborted) return;
      throw e;
    }
    save("operations.csv", toCSV(lines));
  });
  return (
    <>
      {problem && <span class="small bad-text" role="alert">{t("export-failed")}</span>}
      {doing ? <Button icon="close" onClick={() => stop.current?.abort()}>{t("exporting", { n: count(done) })}</Button> : <Button icon="download" onClick={start}>{t("export-csv")}</Button>}
    </>
  );
}
