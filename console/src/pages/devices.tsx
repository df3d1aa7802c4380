// All devices: a list of any length, searched and filtered by what is in the address.

import { useState } from "preact/hooks";
import { call, type Query } from "../api";
import { useDoing, usePages } from "../data";
import { fromLocalInput, localInput, route } from "../format";
import { t, type Key } from "../i18n";
import { setParams, to, useRoute, type Params } from "../route";
import { Rows, type Column } from "../rows";
import { can } from "../session";
import type { Device } from "../types";
import { Badge, Button, Code, Dialog, Empty, Field, FilterBar, fieldError, LazyInput, LinkButton, Page, ProblemBox, Secret, Select, Time } from "../ui";

const filters = ["q", "kind", "group", "tag", "endpoint_id", "online", "not_read_since"] as const;

export function Presence({ d }: { d: Device }) {
  if (!d.enabled) return <Badge tone="mute">{t("disabled")}</Badge>;
  if (!d.presence) return <span class="mute">{t("unknown")}</span>;
  return <span><i class={d.presence.online ? "dot on" : "dot"} />{d.presence.online ? t("online") : t("offline")}</span>;
}

const columnsOf = (): Column<Device>[] => [
  { id: "id", title: t("device"), width: "minmax(130px, 1.3fr)", cell: (d) => <a class="mono" href={to(["devices", d.id])}>{d.id}</a> },
  { id: "name", title: t("name"), width: "minmax(110px, 1.4fr)", wide: true, cell: (d) => d.name || <span class="mute">–</span> },
  { id: "kind", title: t("kind"), width: "84px", wide: true, cell: (d) => t(("device-kind." + d.kind) as Key) },
  { id: "endpoint", title: t("endpoint"), width: "minmax(100px, 1fr)", wide: true, cell: (d) => (d.endpoint_id === d.id ? <span class="mute">{t("itself")}</span> : <Code>{d.endpoint_id}</Code>) },
  { id: "route", title: t("route"), width: "minmax(110px, 1fr)", wide: true, cell: (d) => <span class="mono mute">{route(d.route) || "–"}</span> },
  { id: "presence", title: t("presence"), width: "96px", cell: (d) => <Presence d={d} /> },
  { id: "read", title: t("last-read"), width: "minmax(96px, 130px)", right: true, cell: (d) => <Time at={d.last_read_at} relative /> },
];

export function DevicesPage() {
  const { params } = useRoute();
  const q: Query = Object.fromEntries(filters.map((f) => [f, f === "tag" && params.tag ? params.tag.split(",").map((x) => x.trim().replace(/\s*[:：]\s*/, ":")) : params[f] ?? ""]));
  const pages = usePages<Device>("/v1/devices", q, 200, 1000);
  const [making, setMaking] = useState(false);
  const filtered = filters.some((f) => params[f]);
  return (
    <Page fill title={t("nav.devices")} actions={<>
      <Button icon="refresh" onClick={pages.again}>{t("refresh")}</Button>
      {can("fleet:write") && <LinkButton href={to(["devices", "import"])}>{t("import")}</LinkButton>}
      {can("fleet:write") && <Button kind="primary" icon="plus" onClick={() => setMaking(true)}>{t("devices.new")}</Button>}
    </>}>
      <Filters params={params} />
      <Rows label={t("nav.devices")} pages={pages} columns={columnsOf()} rowKey={(d) => d.id} href={(d) => to(["devices", d.id])} ahead={3000}
        empty={filtered ? <Empty title={t("devices.none-match")}><Button onClick={() => clear(params)}>{t("clear-filters")}</Button></Empty>
          : <Empty title={t("devices.none")}>{can("fleet:write") ? <><p>{t("devices.none-advice")}</p><LinkButton kind="primary" href={to(["devices", "import"])}>{t("import")}</LinkButton></> : <p>{t("devices.none-viewer")}</p>}</Empty>} />
      {making && <NewDevice close={() => setMaking(false)} made={pages.again} />}
    </Page>
  );
}

const clear = (params: Params) => setParams(Object.fromEntries(Object.keys(params).map((k) => [k, ""])));

function Filters({ params }: { params: Params }) {
  const set = (name: string) => (value: string) => setParams({ [name]: value });
  const since = (days: number) => () => setParams({ not_read_since: new Date(Math.floor(Date.now() / 60_000) * 60_000 - days * 86_400_000).toISOString() });
  return (
    <FilterBar active={filters.filter((f) => params[f]).length}>
      <Field cls="grow" label={t("search")}><LazyInput type="search" name="q" value={params.q ?? ""} onValue={set("q")} placeholder={t("devices.search")} /></Field>
      <Field label={t("kind")}><Select name="kind" value={params.kind ?? ""} all={t("all")} options={["meter", "ipc", "direct"].map((k) => [k, t(("device-kind." + k) as Key)])} onChange={set("kind")} /></Field>
      <Field label={t("presence")}><Select name="online" value={params.online ?? ""} all={t("all")} options={[["true", t("online")], ["false", t("offline")]]} onChange={set("online")} /></Field>
      <Field label={t("group")}><LazyInput name="group" value={params.group ?? ""} onValue={set("group")} /></Field>
      <Field label={t("tag")}><LazyInput name="tag" class="mono" value={params.tag ?? ""} onValue={set("tag")} placeholder="site:north" /></Field>
      <Field label={t("endpoint")}><LazyInput name="endpoint_id" class="mono" value={params.endpoint_id ?? ""} onValue={set("endpoint_id")} /></Field>
      <Field cls="date" label={t("devices.not-read-since")}><input name="not_read_since" type="datetime-local" value={localInput(params.not_read_since ?? "")} onChange={(e) => set("not_read_since")(fromLocalInput(e.currentTarget.value))} /></Field>
      <div class="actions">
        <button type="button" class="chip" onClick={since(1)}>{t("devices.not-read-day")}</button><button type="button" class="chip" onClick={since(7)}>{t("devices.not-read-week")}</button>
        {filters.some((f) => params[f]) && <button type="button" class="chip" onClick={() => clear(params)}>{t("clear-filters")}</button>}
      </div>
    </FilterBar>
  );
}

function NewDevice({ close, made }: { close(): void; made(): void }) {
  const [d, set] = useState({ id: "", name: "", kind: "meter", endpoint_id: "", route: '[{"bus":"com1","baud":2400},{"meter":"","protocol":"dlt645-2007"}]' });
  const [done, setDone] = useState<Device>();
  const { doing, problem, run, setProblem } = useDoing();
  const [badRoute, setBadRoute] = useState(false);
  const field = (name: keyof typeof d) => ({ name, value: d[name], onInput: (e: Event) => { setProblem(undefined); set({ ...d, [name]: (e.currentTarget as HTMLInputElement).value }); } });
  const submit = (e: Event) => {
    e.preventDefault();
    let hops: unknown;
    try { hops = d.kind === "meter" ? JSON.parse(d.route) : undefined; } catch { return setBadRoute(true); }
    setBadRoute(false);
    void run(async () => {
      const device = await call<Device>("POST", "/v1/devices", { body: { id: d.id, name: d.name || undefined, kind: d.kind, endpoint_id: d.kind === "meter" ? d.endpoint_id : undefined, route: hops } });
      setDone(device);
      made();
    });
  };
  if (done) {
    return (
      <Dialog title={t("devices.made", { id: done.id })} onClose={close}>
        {done.credentials ? <Credentials password={done.credentials.password} user={done.credentials.username} /> : <p>{t("devices.made-meter")}</p>}
        <div class="form-end"><Button onClick={close}>{t("close")}</Button><LinkButton kind="primary" href={to(["devices", done.id])}>{t("open")}</LinkButton></div>
      </Dialog>
    );
  }
  return (
    <Dialog title={t("devices.new")} onClose={close}>
      <form class="form" onSubmit={submit}>
        <Field label="ID" hint={t("devices.id-hint")} error={fieldError(problem, "/id")}><input class="mono" required maxLength={64} pattern="[A-Za-z0-9._\-]{1,64}" {...field("id")} /></Field>
        <Field label={t("name")} error={fieldError(problem, "/name")}><input {...field("name")} /></Field>
        <Field label={t("kind")} error={fieldError(problem, "/kind")}><Select value={d.kind} options={["meter", "ipc", "direct"].map((k) => [k, t(("device-kind-long." + k) as Key)])} onChange={(kind) => set({ ...d, kind })} /></Field>
        {d.kind === "meter" && (
          <>
            <Field label={t("devices.ipc")} error={fieldError(problem, "/endpoint_id")}><input class="mono" required {...field("endpoint_id")} /></Field>
            <Field label={t("route")} hint={t("devices.route-hint")} error={badRoute ? t("devices.route-wrong") : fieldError(problem, "/route")}><textarea class="mono" rows={3} {...field("route")} /></Field>
          </>
        )}
        <ProblemBox problem={problem} />
        <div class="form-end"><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="primary" busy={doing}>{t("create")}</Button></div>
      </form>
    </Dialog>
  );
}

export function Credentials({ user, password }: { user: string; password: string }) {
  return (
    <div class="stack">
      <p class="note warn">{t("devices.secret-once")}</p>
      <Field label={t("devices.user-name")}><Secret text={user} /></Field>
      <Field label={t("password")}><Secret text={password} /></Field>
    </div>
  );
}
