// Read now: whom, what and how; a look at whether there is time for it; and what was asked for lately.

import { useEffect, useMemo, useState } from "preact/hooks";
import { get, once } from "../api";
import { pagesOf } from "../rows";
import { useAsk, useDoing, usePages } from "../data";
import { count, span } from "../format";
import { lang, t, type Key } from "../i18n";
import { isItem, itemName, knownItems, namedSets, ownSets, type ItemSet } from "../items";
import { go, to, useRoute } from "../route";
import { can } from "../session";
import { kept, useStore } from "../store";
import { kinds, type Command, type Device, type Group, type Kind, type List } from "../types";
import { Badge, Button, Code, Confirm, Empty, Field, Icon, Item, LazyInput, Loading, Page, Panel, ProblemBox, Select, StateBadge, Time } from "../ui";

type By = "devices" | "group" | "tags" | "all";
type Targets = { device_ids?: string[]; group?: string; tags?: Record<string, string>; all?: boolean };
const timeouts = { realtime: 30, async: 86_400 };
const secondsPerItem = kept("bus-seconds", 0.5);

export function ReadPage() {
  const { params } = useRoute();
  const [by, setBy] = useState<By>(params.group ? "group" : "devices");
  const [devices, setDevices] = useState<string[]>(params.devices ? params.devices.split(",") : []);
  const [group, setGroup] = useState(params.group ?? "");
  const [tags, setTags] = useState("");
  const [kind, setKind] = useState<Kind>("meter.read");
  const [items, setItems] = useState<string[]>(params.item ? [params.item] : ["1-0:1.8.0"]);
  const [relay, setRelay] = useState("open");
  const [mode, setMode] = useState<"realtime" | "async">("realtime");
  const [timeout, setTimeoutS] = useState("");
  const [age, setAge] = useState("");
  const [sure, setSure] = useState(false); // about a relay
  const { doing, problem, run } = useDoing();

  const tagged = useMemo(() => tagsOf(tags), [tags]);
  const targets: Targets | null = by === "devices" ? (devices.length ? { device_ids: devices } : null) : by === "group" ? (group ? { group } : null) : by === "tags" ? (tagged && Object.keys(tagged).length ? { tags: tagged } : null) : { all: true };
  const reads = kind === "meter.read";
  const deadline = Number(timeout) || timeouts[mode];
  const may = can("commands:write") && (kind !== "meter.relay" || can("commands:control"));
  const ready = targets !== null && (!reads || items.length > 0) && may;
  const submit = (e: Event) => {
    e.preventDefault();
    if (!ready || (kind === "meter.relay" && !sure)) return setSure(ready);
    setSure(false);
    void run(async () => {
      const made = await once<Command>("/v1/commands", {
        kind, mode, targets, items: reads ? items : undefined, params: kind === "meter.relay" ? { state: relay } : undefined,
        timeout_s: timeout ? Number(timeout) : undefined, max_age_s: reads && age ? Number(age) : undefined,
      });
      go(["commands", made.id]);
    });
  };
  return (
    <Page title={t("nav.read")}>
      <form class="grid side" onSubmit={submit} aria-label={t("nav.read")}>
        <div class="stack">
          <Panel title={"1 · " + t("read.devices")}>
            <div class="step">
              <div class="tabs" role="group" aria-label={t("read.devices")}>
                {(["devices", "group", "tags", "all"] as By[]).map((b) => <button type="button" aria-pressed={by === b} onClick={() => setBy(b)}>{t(("read.by-" + b) as Key)}</button>)}
              </div>
              {by === "devices" && <PickDevices chosen={devices} choose={setDevices} />}
              {by === "group" && <PickGroup group={group} choose={setGroup} />}
              {by === "tags" && <Field label={t("tags")} hint={t("read.tags-hint")} error={tags && !tagged ? t("read.tags-wrong") : undefined}><input class="mono" name="tags" value={tags} placeholder="site: north, phase: 3" onInput={(e) => setTags(e.currentTarget.value)} /></Field>}
              {by === "all" && <p class="note warn">{t("read.all-note")}</p>}
            </div>
          </Panel>
          <Panel title={"2 · " + t("read.what")}>
            <div class="step">
              <Field label={t("kind")}><Select name="kind" value={kind} options={kinds.filter((k) => k !== "meter.relay" || can("commands:control")).map((k) => [k, t(("kind." + k) as Key)])} onChange={(v) => setKind(v as Kind)} /></Field>
              {reads && <PickItems items={items} choose={setItems} />}
              {kind === "meter.relay" && <Field label={t("read.relay")}><Select value={relay} options={[["open", t("read.relay-open")], ["closed", t("read.relay-closed")]]} onChange={setRelay} /></Field>}
            </div>
          </Panel>
          <Panel title={"3 · " + t("read.how")}>
            <div class="step">
              <div class="tabs" role="group" aria-label={t("mode")}>{(["realtime", "async"] as const).map((m) => <button type="button" aria-pressed={mode === m} onClick={() => setMode(m)}>{t(("mode." + m) as Key)}</button>)}</div>
              <p class="mute small">{t(("mode-means." + mode) as Key)}</p>
              <div class="form-row">
                <Field label={t("read.timeout")} hint={t("read.timeout-hint", { span: span(timeouts[mode] * 1000) })}><input name="timeout" type="number" min={1} max={2_592_000} value={timeout} onInput={(e) => setTimeoutS(e.currentTarget.value)} /></Field>
                {reads && <Field label={t("read.age")} hint={t("read.age-hint")}><input name="age" type="number" min={0} value={age} onInput={(e) => setAge(e.currentTarget.value)} /></Field>}
              </div>
            </div>
          </Panel>
        </div>
        <div class="stack">
          <Panel title={"4 · " + t("read.check")}>
            <div class="step">
              <Estimate targets={targets} items={reads ? items.length : 1} deadline={deadline} meters={kind !== "device.ping"} />
              {!may && <p class="note warn">{t("read.may-not")}</p>}
              <ProblemBox problem={problem} />
              <div class="form-end"><Button type="submit" kind="primary" icon="read" busy={doing} disabled={!ready}>{reads ? t("nav.read") : t("read.send")}</Button></div>
            </div>
          </Panel>
          <Recent />
        </div>
      </form>
      {sure && <Confirm danger title={t("kind.meter.relay")} text={t(relay === "open" ? "read.relay-open-sure" : "read.relay-closed-sure")} action={t("read.send")} doing={doing} onYes={() => submit(new Event("submit"))} onNo={() => setSure(false)} />}
    </Page>
  );
}

/** "site: north, phase: 3" as an object; null when it is not that. */
function tagsOf(text: string): Record<string, string> | null {
  const tags: Record<string, string> = {};
  for (const part of text.split(/[,，]/).map((p) => p.trim()).filter(Boolean)) {
    const [, name, value] = /^([^:：=]+?)\s*[:：=]\s*(.*)$/.exec(part) ?? [];
    if (!name) return null;
    tags[name.trim()] = value;
  }
  return tags;
}

function PickDevices({ chosen, choose }: { chosen: string[]; choose(ids: string[]): void }) {
  const [q, setQ] = useState("");
  const a = useAsk("pick?" + q, (signal) => get<List<Device>>("/v1/devices", { q, limit: 100 }, signal));
  const found = (a.data?.items ?? []).filter((d) => d.kind !== "ipc" || q !== "");
  const has = new Set(chosen);
  const toggle = (id: string) => choose(has.has(id) ? chosen.filter((c) => c !== id) : [...chosen, id]);
  const rest = found.filter((d) => d.enabled && d.kind !== "ipc" && !has.has(d.id));
  return (
    <>
      <Field label={t("search")}><LazyInput type="search" name="search" value={q} onValue={setQ} placeholder={t("devices.search")} /></Field>
      <div class="picker" role="group" aria-label={t("read.devices")}>
        {a.error ? <ProblemBox problem={a.error} again={a.again} /> : !a.data ? <Loading /> : found.length === 0 ? <Empty title={t("devices.none-match")} /> : found.map((d) => (
          <label>
            <input type="checkbox" checked={has.has(d.id)} disabled={!d.enabled} onChange={() => toggle(d.id)} />
            <Code>{d.id}</Code><span class="grow mute">{d.name !== d.id && d.name}</span>
            {!d.enabled ? <Badge tone="mute">{t("disabled")}</Badge> : <span class="small mute"><i class={d.presence?.online ? "dot on" : "dot"} />{d.presence?.online ? t("online") : t("offline")}</span>}
          </label>
        ))}
      </div>
      <div class="actions">
        {rest.length > 0 && <Button onClick={() => choose([...chosen, ...rest.map((d) => d.id)])}>{t("read.take-all", { n: count(rest.length) })}</Button>}
        {chosen.length > 0 && <Button kind="plain" onClick={() => choose([])}>{t("read.take-none")}</Button>}
        <span class="mute small" aria-live="polite">{t("read.chosen", { n: count(chosen.length) })}</span>
      </div>
      {chosen.length > 0 && <div class="chips">{chosen.slice(0, 60).map((id) => <span class="chip mono">{id}<button type="button" class="x" aria-label={t("remove", { what: id })} onClick={() => toggle(id)}>×</button></span>)}{chosen.length > 60 && <span class="chip">+{chosen.length - 60}</span>}</div>}
    </>
  );
}

function PickGroup({ group, choose }: { group: string; choose(name: string): void }) {
  const a = useAsk("groups", (signal) => get<List<Group>>("/v1/groups", { limit: 1000 }, signal));
  if (!a.data) return a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />;
  if (a.data.items.length === 0) return <Empty title={t("groups.none")}><a href={to("groups")}>{t("nav.groups")}</a></Empty>;
  return <Field label={t("group")}><Select name="group" value={group} all={t("read.choose")} options={a.data.items.map((g) => [g.name, `${g.name} (${count(g.devices)})`])} onChange={choose} /></Field>;
}

function PickItems({ items, choose }: { items: string[]; choose(items: string[]): void }) {
  const [typed, setTyped] = useState("");
  const [wrong, setWrong] = useState(false);
  const [naming, setNaming] = useState("");
  const own = useStore(ownSets);
  const same = (s: ItemSet) => s.items.length === items.length && s.items.every((i) => items.includes(i));
  const toggle = (i: string) => choose(items.includes(i) ? items.filter((x) => x !== i) : [...items, i]);
  const add = () => {
    const i = typed.trim();
    if (!isItem(i)) return setWrong(true);
    if (!items.includes(i)) choose([...items, i]);
    setTyped("");
  };
  const listed = [...new Set([...knownItems.slice(0, 20), ...items])];
  return (
    <>
      <div class="field"><span class="label" id="sets">{t("read.sets")}</span>
        <div class="chips" role="group" aria-labelledby="sets">
          {[...namedSets, ...own].map((s) => (
            <span class="chips">
              <button type="button" class="chip" aria-pressed={same(s)} onClick={() => choose(s.items)}>{s.name[lang.get() === "zh" ? 1 : 0]} · {s.items.length}</button>
              {s.own && <button type="button" class="chip" aria-label={t("remove", { what: s.name[0] })} onClick={() => ownSets.set(own.filter((x) => x.id !== s.id))}>×</button>}
            </span>
          ))}
        </div>
      </div>
      <div class="picker columns" role="group" aria-label={t("items")}>
        {listed.map((i) => <label><input type="checkbox" value={i} checked={items.includes(i)} onChange={() => toggle(i)} /><span class="grow"><Item obis={i} /></span></label>)}
      </div>
      <div class="form-row">
        <Field label={t("read.other-item")} error={wrong ? t("read.item-wrong") : undefined}>
          <input class="mono" name="item" value={typed} placeholder="1-0:1.8.0" onInput={(e) => { setTyped(e.currentTarget.value); setWrong(false); }} onKeyDown={(e) => { if (e.key === "Enter") { e.preventDefault(); add(); } }} />
        </Field>
        <Field label={t("read.save-set")} hint={t("read.save-set-hint")}>
          <input name="set-name" value={naming} maxLength={40} onInput={(e) => setNaming(e.currentTarget.value)} onKeyDown={(e) => {
            if (e.key !== "Enter") return;
            e.preventDefault();
            const name = naming.trim();
            if (!name || items.length === 0) return;
            ownSets.set([...own.filter((s) => s.name[0] !== name), { id: "own-" + name, name: [name, name], items, own: true }]);
            setNaming("");
          }} />
        </Field>
      </div>
    </>
  );
}

// How many devices are looked at to estimate: beyond that the estimate says "at least".
const lookMost = 5000;

type Load = { devices: number; busiest: number; bus: string; more: boolean };

/** Finds the bus with most of the meters that are asked. Meters on one bus are asked one after another. */
async function loadOf(targets: Targets, signal: AbortSignal): Promise<Load> {
  const buses = new Map<string, number>();
  let devices = 0, cursor: string | null = "";
  const add = (d: Device) => {
    if (!d.enabled || d.kind === "ipc") return;
    devices++;
    const bus = d.kind === "meter" ? `${d.endpoint_id} ${String(d.route[0]?.bus ?? "")}`.trim() : d.id;
    buses.set(bus, (buses.get(bus) ?? 0) + 1);
  };
  if (targets.device_ids) {
    const ids = targets.device_ids.slice(0, 200);
    for (let i = 0; i < ids.length; i += 6) for (const d of await Promise.all(ids.slice(i, i + 6).map((id) => get<Device>(`/v1/devices/${encodeURIComponent(id)}`, {}, signal)))) add(d);
    cursor = targets.device_ids.length > ids.length ? "more" : null;
    devices = targets.device_ids.length;
  } else {
    const q = targets.group ? { group: targets.group } : targets.tags ? { tag: Object.entries(targets.tags).map(([k, v]) => `${k}:${v}`) } : {};
    for (let seen = 0; cursor !== null && seen < lookMost;) {
      const page: List<Device> = await get<List<Device>>("/v1/devices", { ...q, limit: 1000, cursor }, signal);
      page.items.forEach(add);
      seen += page.items.length;
      cursor = page.next_cursor;
    }
  }
  const [bus, busiest] = [...buses].sort((a, b) => b[1] - a[1])[0] ?? ["", 0];
  return { devices, busiest, bus, more: cursor !== null };
}

function Estimate({ targets, items, deadline, meters }: { targets: Targets | null; items: number; deadline: number; meters: boolean }) {
  const per = useStore(secondsPerItem);
  const a = useAsk(targets && meters ? JSON.stringify(targets) : null, (signal) => loadOf(targets!, signal));
  if (!targets) return <p class="mute">{t("read.no-targets")}</p>;
  if (!meters) return null;
  if (!a.data) return a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />;
  const l = a.data;
  const time = l.busiest * items * per;
  const atLeast = l.more ? "≥ " : "";
  return (
    <>
      <p aria-live="polite">{t("read.estimate", { devices: atLeast + count(l.devices), items: count(items), meters: atLeast + count(l.busiest), bus: l.bus || "–", time: atLeast + span(time * 1000), deadline: span(deadline * 1000) })}</p>
      {l.devices === 0 && <p class="note warn">{t("read.none-suit")}</p>}
      {time > deadline && <p class="note warn" role="alert" id="too-long"><Icon name="warn" /> {t("read.too-long", { time: atLeast + span(time * 1000), deadline: span(deadline * 1000) })}</p>}
      <Field label={t("read.bus-seconds")} hint={t("read.bus-seconds-hint")}><input name="bus-seconds" type="number" min={0.01} step={0.01} value={per} onChange={(e) => { const v = Number(e.currentTarget.value); if (v > 0) secondsPerItem.set(v); }} /></Field>
    </>
  );
}

function Recent() {
  const pages = usePages<Command>("/v1/commands", {}, 30);
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden) pages.again(); }, 10_000);
    return () => clearInterval(timer);
  }, [pages.again]);
  const all = pagesOf(pages.items);
  return (
    <Panel flush title={t("read.recent")} actions={<Button kind="plain" icon="refresh" label={t("refresh")} onClick={pages.again} />}>
      {all.items.length === 0 && (pages.error ? <ProblemBox problem={pages.error} again={pages.again} /> : pages.loading ? <Loading /> : <Empty title={t("read.no-recent")} />)}
      {all.items.length > 0 && (
        <table class="table"><thead><tr><th>{t("command")}</th><th>{t("state")}</th><th class="right">{t("read.read")}</th></tr></thead><tbody>
          {all.items.map((c) => (
            <tr class="opens"><td><div class="two-line"><a href={to(["commands", c.id])}>{t(("kind." + c.kind) as Key)}{c.items.length > 0 && " · " + (itemName(c.items[0]) || c.items[0]) + (c.items.length > 1 ? ` +${c.items.length - 1}` : "")}</a><span class="mute small"><Time at={c.created_at} relative /> · {t(("mode." + c.mode) as Key)}</span></div></td>
              <td><StateBadge state={c.status} /></td><td class="right num nowrap">{count(c.counts.succeeded)} / {count(c.counts.total)}</td></tr>
          ))}
        </tbody></table>
      )}
    </Panel>
  );
}
