// One device: whether it is there, what it measured, what it was asked and what it said.

import { useEffect, useMemo, useState } from "preact/hooks";
import { call, get, request } from "../api";
import { Chart } from "../chart";
import { save } from "../csv";
import { useAsk, useDoing, usePages } from "../data";
import { route } from "../format";
import { t, type Key } from "../i18n";
import { itemName } from "../items";
import { go, to } from "../route";
import { can } from "../session";
import type { Device, DeviceEvent, List, Operation, Reading } from "../types";
import { announce, Badge, Button, Code, Confirm, Dialog, Empty, Facts, Field, fieldError, Item, LinkButton, Loading, Page, Panel, ProblemBox, Select, Stale, StateBadge, Tags, Time } from "../ui";
import { Credentials, Presence } from "./devices";
import { EventData } from "./events";
import { began, Brought } from "./operations";

const url = (id: string) => `/v1/devices/${encodeURIComponent(id)}`;

export function DevicePage({ id }: { id: string }) {
  const a = useAsk("device/" + id, (signal) => get<Device>(url(id), {}, signal), 5000);
  const d = a.data;
  if (!d) return <Page title={id}>{a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />}</Page>;
  return (
    <Page title={d.name || d.id} aside={<><Presence d={d} /><Stale at={a.at} error={a.error} /></>} actions={<Actions d={d} changed={a.again} />}>
      {!d.enabled && <p class="note warn">{t("device.disabled-note")}</p>}
      <div class="grid side">
        <div class="stack">
          {d.kind !== "ipc" && <Readings id={id} />}
          {can("commands:read") && <Operations id={id} ipc={d.kind === "ipc"} />}
          <Events id={id} />
        </div>
        <div class="stack">
          <Panel title={t("device.about")}>
            <Facts facts={[
              ["ID", <Code>{d.id}</Code>], [t("kind"), t(("device-kind." + d.kind) as Key)],
              [t("endpoint"), d.endpoint_id === d.id ? t("itself") : <a class="mono" href={to(["devices", d.endpoint_id])}>{d.endpoint_id}</a>], [t("route"), <Code>{route(d.route) || "–"}</Code>],
              [t("groups"), d.groups.length ? <span class="chips">{d.groups.map((g) => <a class="chip" href={to(["groups", g])}>{g}</a>)}</span> : "–"], [t("tags"), <Tags tags={d.tags} />],
              [t("last-read"), <Time at={d.last_read_at} relative />], [t("created"), <Time at={d.created_at} />], [t("changed"), <Time at={d.updated_at} />],
            ]} />
            {d.kind === "ipc" && <p><a href={to("devices", { endpoint_id: d.id })}>{t("device.meters-behind")}</a></p>}
          </Panel>
          <Panel title={t("device.session")}>
            {d.presence === null ? <p class="mute">{t("overview.presence-unknown")}</p> : (
              <Facts facts={[[t("presence"), d.presence.online ? <Badge tone="ok">{t("online")}</Badge> : <Badge tone="mute">{t("offline")}</Badge>], [t("gateway"), d.presence.gateway ? <Code>{d.presence.gateway}</Code> : "–"], [t("since"), <Time at={d.presence.since} />]]} />
            )}
            {d.endpoint_id !== d.id && <p class="mute small">{t("device.session-of", { id: d.endpoint_id })}</p>}
          </Panel>
          {can("audit:read") && <p><a href={to("audit", { object: "device:" + d.id })}>{t("device.audit")}</a></p>}
        </div>
      </div>
    </Page>
  );
}

function Actions({ d, changed }: { d: Device; changed(): void }) {
  const [asks, setAsks] = useState<"" | "disable" | "rotate" | "delete" | "edit">("");
  const [secret, setSecret] = useState<{ username: string; password: string }>();
  const { doing, problem, run, setProblem } = useDoing();
  const close = () => { setAsks(""); setProblem(undefined); };
  const enable = (enabled: boolean) => run(async () => {
    await call("PATCH", url(d.id), { body: { enabled } });
    close();
    announce(t(enabled ? "device.enabled" : "device.disabled"));
    changed();
  });
  const rotate = () => run(async () => {
    const r = await call<Device>("POST", url(d.id) + "/credentials");
    close();
    setSecret(r.credentials);
  });
  const remove = () => run(async () => {
    await call("DELETE", url(d.id));
    announce(t("device.deleted"));
    go("devices");
  });
  return (
    <>
      {can("commands:write") && d.enabled && d.kind !== "ipc" && <LinkButton kind="primary" icon="read" href={to("read", { devices: d.id })}>{t("nav.read")}</LinkButton>}
      {can("fleet:write") && (
        <>
          <Button onClick={() => setAsks("edit")}>{t("edit")}</Button>
          {d.kind !== "meter" && <Button onClick={() => setAsks("rotate")}>{t("device.rotate")}</Button>}
          {d.enabled ? <Button onClick={() => setAsks("disable")}>{t("device.disable")}</Button> : <Button busy={doing} onClick={() => enable(true)}>{t("device.enable")}</Button>}
          <Button kind="danger" onClick={() => setAsks("delete")}>{t("delete")}</Button>
        </>
      )}
      {asks === "disable" && <Confirm danger title={t("device.disable")} text={t("device.disable-text", { id: d.id })} action={t("device.disable")} doing={doing} problem={problem} onYes={() => enable(false)} onNo={close} />}
      {asks === "rotate" && <Confirm title={t("device.rotate")} text={t("device.rotate-text", { id: d.id })} action={t("device.rotate")} doing={doing} problem={problem} onYes={rotate} onNo={close} />}
      {asks === "delete" && <Confirm danger title={t("delete")} text={t("device.delete-text", { id: d.id })} action={t("delete")} doing={doing} problem={problem} onYes={remove} onNo={close} />}
      {asks === "edit" && <Edit d={d} close={close} changed={changed} />}
      {secret && <Dialog title={t("device.rotate")} onClose={() => setSecret(undefined)}><Credentials user={secret.username} password={secret.password} /></Dialog>}
    </>
  );
}

function Edit({ d, close, changed }: { d: Device; close(): void; changed(): void }) {
  const [name, setName] = useState(d.name);
  const [groups, setGroups] = useState(d.groups.join(", "));
  const [tags, setTags] = useState(Object.entries(d.tags).map(([k, v]) => `${k}: ${v}`).join("\n"));
  const { doing, problem, run } = useDoing();
  const save = (e: Event) => {
    e.preventDefault();
    const next: Record<string, string | null> = Object.fromEntries(Object.keys(d.tags).map((k) => [k, null]));
    for (const line of tags.split("\n")) {
      const at = line.search(/[:：]/);
      if (at > 0) next[line.slice(0, at).trim()] = line.slice(at + 1).trim();
    }
    void run(async () => {
      await call("PATCH", url(d.id), { body: { name, groups: groups.split(/[,，]/).map((g) => g.trim()).filter(Boolean), tags: next } });
      announce(t("saved"));
      changed();
      close();
    });
  };
  return (
    <Dialog title={d.id} onClose={close}>
      <form class="form" onSubmit={save}>
        <Field label={t("name")} error={fieldError(problem, "/name")}><input value={name} onInput={(e) => setName(e.currentTarget.value)} /></Field>
        <Field label={t("groups")} hint={t("device.groups-hint")} error={fieldError(problem, "/groups")}><input value={groups} onInput={(e) => setGroups(e.currentTarget.value)} /></Field>
        <Field label={t("tags")} hint={t("device.tags-hint")} error={fieldError(problem, "/tags")}><textarea rows={4} class="mono" value={tags} onInput={(e) => setTags(e.currentTarget.value)} /></Field>
        <ProblemBox problem={problem} />
        <div class="form-end"><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="primary" busy={doing}>{t("save")}</Button></div>
      </form>
    </Dialog>
  );
}

function Readings({ id }: { id: string }) {
  const a = useAsk(can("readings:read") ? "latest/" + id : null, (signal) => get<List<Reading>>(url(id) + "/latest", {}, signal), 5000);
  const [item, setItem] = useState("");
  const items = a.data?.items ?? [];
  useEffect(() => { if (!item && items.length) setItem(items[0].item); }, [items.length]);
  if (!can("readings:read")) return <Panel title={t("device.latest")}><p class="mute">{t("device.readings-forbidden")}</p></Panel>;
  return (
    <>
      <Panel flush title={t("device.latest")} actions={<Stale at={a.at} error={a.error} />}>
        {!a.data ? (a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />) : items.length === 0 ? <Empty title={t("device.no-readings")}>{can("commands:write") && <LinkButton href={to("read", { devices: id })}>{t("nav.read")}</LinkButton>}</Empty> : (
          <table class="table"><thead><tr><th>{t("item")}</th><th class="right">{t("value")}</th><th>{t("quality")}</th><th class="right hide-narrow">{t("read-at")}</th></tr></thead><tbody>
            {items.map((r) => (
              <tr class="opens"><th scope="row"><button type="button" class="link" aria-pressed={r.item === item} onClick={() => setItem(r.item)}><Item obis={r.item} /></button></th><td class="right num"><strong>{r.value}</strong> {r.unit}</td>
                <td><Badge tone={r.quality === "valid" ? "ok" : r.quality === "invalid" ? "bad" : "warn"}>{t(("quality." + r.quality) as Key)}</Badge>{r.late && <Badge tone="warn">{t("late")}</Badge>}</td><td class="right hide-narrow"><Time at={r.read_at} /></td></tr>
            ))}
          </tbody></table>
        )}
      </Panel>
      {item && <History id={id} item={item} items={items.map((r) => r.item)} choose={setItem} newest={items.find((r) => r.item === item)?.read_at ?? ""} />}
    </>
  );
}

// How many readings a chart shows at most: more are not to be told apart on a screen.
const chartMost = 5000;

function History({ id, item, items, choose, newest }: { id: string; item: string; items: string[]; choose(i: string): void; newest: string }) {
  const [days, setDays] = useState("1");
  const from = useMemo(() => new Date(Date.now() - Number(days) * 86_400_000).toISOString(), [days, newest]);
  const a = useAsk(`readings/${id}/${item}/${from}`, async (signal) => {
    const all: Reading[] = [];
    for (let cursor: string | null = ""; cursor !== null && all.length < chartMost;) {
      const page: List<Reading> = await get<List<Reading>>("/v1/readings", { device_id: id, item, from, limit: 1000, cursor }, signal);
      all.push(...page.items);
      cursor = page.next_cursor;
    }
    return all;
  });
  const { doing, run } = useDoing();
  const csv = () => run(async () => save(`readings-${id}.csv`, await (await request("GET", "/v1/readings", { query: { device_id: id, item, from }, accept: "text/csv" })).blob()));
  const shown = useMemo(() => (a.data ?? []).filter((r) => r.quality !== "invalid").map((r) => [Date.parse(r.read_at) / 1000, Number(r.value)]).filter(([, v]) => Number.isFinite(v)), [a.data]);
  const unit = a.data?.[0]?.unit ? ", " + a.data[0].unit : "";
  const name = itemName(item) || item;
  return (
    <Panel title={t("device.chart") + unit} actions={<>
      <Select aria-label={t("item")} value={item} options={items.map((i) => [i, (itemName(i) ? itemName(i) + " · " : "") + i])} onChange={choose} />
      <Select aria-label={t("span")} value={days} options={[["1", t("last-day")], ["7", t("last-week")], ["30", t("last-month")]]} onChange={setDays} />
      <Button icon="download" busy={doing} onClick={csv}>CSV</Button>
    </>}>
      {!a.data ? (a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />) : shown.length === 0 ? <Empty title={t("device.no-readings-span")} />
        : <Chart label={t("device.chart-label", { name, n: shown.length })} points height={220} range={[Date.parse(from) / 1000, Date.now() / 1000]} times={shown.map((p) => p[0])} series={[{ label: name, color: "--accent", values: shown.map((p) => p[1]) }]} />}
    </Panel>
  );
}

function Operations({ id, ipc }: { id: string; ipc: boolean }) {
  const q: Record<string, string> = ipc ? { endpoint_id: id } : { device_id: id };
  const a = useAsk("operations-of/" + id, (signal) => get<List<Operation>>("/v1/operations", { ...q, limit: 10 }, signal), 5000);
  return (
    <Panel flush title={t("nav.operations")} actions={<a class="small" href={to("operations", q)}>{t("show-all")}</a>}>
      {!a.data ? (a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />) : a.data.items.length === 0 ? <Empty title={t("device.no-operations")} /> : (
        <table class="table"><thead><tr><th>{t("operations.at")}</th>{ipc && <th>{t("device")}</th>}<th>{t("state")}</th><th>{t("readings")}</th></tr></thead><tbody>
          {a.data.items.map((o) => (
            <tr class="opens"><td><a href={to("operations", { ...q, open: `${o.command_id}/${o.device_id}` })}><Time at={began(o)} /></a></td>{ipc && <td><Code>{o.device_id}</Code></td>}<td><StateBadge state={o.state} /></td><td><Brought o={o} /></td></tr>
          ))}
        </tbody></table>
      )}
    </Panel>
  );
}

function Events({ id }: { id: string }) {
  const pages = usePages<DeviceEvent>("/v1/events", { device_id: id }, 10);
  return (
    <Panel flush title={t("nav.events")} actions={<a class="small" href={to("events", { device_id: id })}>{t("show-all")}</a>}>
      {pages.items.length === 0 ? (pages.error ? <ProblemBox problem={pages.error} again={pages.again} /> : pages.loading ? <Loading /> : <Empty title={t("device.no-events")} />) : (
        <table class="table"><tbody>{pages.items.map((e) => <tr><td><Time at={e.received_at} /></td><td><Code>{e.type}</Code></td><td class="hide-narrow"><EventData data={e.data} /></td></tr>)}</tbody></table>
      )}
    </Panel>
  );
}
