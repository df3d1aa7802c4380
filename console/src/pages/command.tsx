// One command, live: each operation moves through its states to its reading.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, get, once, Problem, request } from "../api";
import { save } from "../csv";
import { pagesOf, Rows, type Column } from "../rows";
import { useAsk, useDoing, usePages } from "../data";
import { count, span } from "../format";
import { t, word, type Key } from "../i18n";
import { go, setParams, to, useRoute } from "../route";
import { can } from "../session";
import { watchCommand } from "../sse";
import { OperationDetail } from "../trace";
import { openStates, states, type Command, type Operation, type State } from "../types";
import { announce, Badge, Button, Code, Confirm, DeviceLink, Empty, ErrorCode, Facts, Item, Loading, Page, Panel, ProblemBox, Stale, StateBadge, Time, useNarrow, useNow } from "../ui";
import { Brought } from "./operations";

// Beyond so many operations the page asks for them page by page, and for the counts every two seconds.
const liveMost = 10_000;

export function CommandPage({ id }: { id: string }) {
  const [running, setRunning] = useState(true);
  const a = useAsk("command/" + id, (signal) => get<Command>(`/v1/commands/${encodeURIComponent(id)}`, {}, signal), running ? 2000 : 0);
  const c = a.data;
  useEffect(() => { if (c) setRunning(c.finished_at === null); }, [c]);
  if (!c) return <Page title={t("command")}>{a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />}</Page>;
  const kind = t(("kind." + c.kind) as Key);
  const title = kind[0].toUpperCase() + kind.slice(1);
  return (
    <Page fill title={title} aside={<><StateBadge state={c.status} /><Stale at={a.at} error={a.error} /></>} actions={<Actions c={c} changed={a.again} />}>
      <Live c={c} key={c.id} changed={a.again} />
    </Page>
  );
}

function Live({ c, changed }: { c: Command; changed(): void }) {
  const { params } = useRoute();
  const small = c.counts.total <= liveMost;
  const live = useLive(c, small, changed);
  const paged = usePages<Operation>(small ? null : `/v1/commands/${c.id}/operations`, { state: params.state ?? "" });
  const counts = small ? live.counts : c.counts;
  const shown = useMemo(() => [...live.operations.values()].filter((o) => !params.state || o.state === params.state).sort((a, b) => (a.device_id < b.device_id ? -1 : 1)), [live.turn, params.state]);
  const pages = small ? pagesOf(shown, { loading: live.operations.size === 0 && !live.problem, done: live.operations.size > 0 || c.counts.total === 0, error: live.problem }) : paged;
  const narrow = useNarrow();
  const open = params.open ? live.operations.get(params.open) ?? paged.items.find((o) => o.device_id === params.open) : undefined;
  const columns = useMemo(() => columnsOf(c, params.state ?? ""), [c.id, params.state]);
  return (
    <>
      <Panel>
        <Progress counts={counts} chosen={params.state ?? ""} />
        <Head c={c} live={small && c.finished_at === null ? live.live : null} />
      </Panel>
      <div class={open ? "split open" : "split"}>
        <Rows label={t("nav.operations")} pages={pages} columns={open && !narrow ? columns.filter((x) => !["name", "endpoint", "delivery"].includes(x.id)) : columns} rowKey={(o) => o.device_id} selected={params.open}
          href={(o) => to(["commands", c.id], { ...params, open: o.device_id })} empty={<Empty title={t("operations.none-match")} />} />
        {open && (
          <Panel cls="drawer" title={<DeviceLink id={open.device_id} />} actions={<Button kind="plain" icon="close" label={t("close")} onClick={() => setParams({ open: "" })} />}>
            <OperationDetail o={open} changed={changed} />
          </Panel>
        )}
      </div>
    </>
  );
}

const columnsOf = (c: Command, state: string): Column<Operation>[] => [
  { id: "device", title: t("device"), width: "minmax(110px, 1.3fr)", cell: (o) => <a class="mono" href={to(["commands", c.id], { state, open: o.device_id })}>{o.device_id}</a> },
  { id: "name", title: t("name"), width: "minmax(90px, 1fr)", wide: true, cell: (o) => (o.device.name === o.device_id ? <span class="mute">–</span> : o.device.name) },
  { id: "endpoint", title: t("endpoint"), width: "minmax(100px, 1fr)", wide: true, cell: (o) => <Code>{o.device.endpoint_id}</Code> },
  { id: "state", title: t("state"), width: "98px", cell: (o) => <StateBadge state={o.state} /> },
  { id: "brought", title: t("readings"), width: "minmax(88px, 1fr)", cell: (o) => <Brought o={o} /> },
  { id: "delivery", title: t("operations.delivery"), width: "104px", wide: true, cell: (o) => <span class="small">{t(("delivery." + o.delivery) as Key)}</span> },
  { id: "took", title: t("operations.took"), width: "78px", wide: true, right: true, cell: (o) => span(Date.parse(o.updated_at) - Date.parse(c.created_at)) },
];

/** The operations as the event stream tells them. What comes within one frame is drawn together. */
function useLive(c: Command, wanted: boolean, ended: () => void) {
  const operations = useRef(new Map<string, Operation>()).current;
  const [turn, setTurn] = useState(0);
  const [live, setLive] = useState(true);
  const [problem, setProblem] = useState<Problem>();
  useEffect(() => {
    if (!wanted) return;
    const stop = new AbortController();
    let frame = 0;
    void watchCommand(c.id, {
      operation(o) {
        operations.set(o.device_id, o);
        frame ||= requestAnimationFrame(() => { frame = 0; setTurn((n) => n + 1); });
      },
      end() { ended(); },
      live: setLive,
      refused: setProblem,
    }, stop.signal);
    return () => { stop.abort(); cancelAnimationFrame(frame); };
  }, [c.id, wanted]);
  const counts = useMemo(() => {
    const n = Object.fromEntries(states.map((s) => [s, 0])) as Record<State | "total", number>;
    for (const o of operations.values()) n[o.state]++;
    n.queued += Math.max(0, c.counts.total - operations.size);
    n.total = c.counts.total;
    return n;
  }, [turn, c.counts.total]);
  return { operations, turn, live, problem, counts };
}

function Progress({ counts, chosen }: { counts: Record<State | "total", number>; chosen: string }) {
  const ended = counts.total - openStates.reduce((n, s) => n + counts[s], 0);
  const order: State[] = ["succeeded", "failed", "expired", "dead", "cancelled", "accepted", "delivered", "sent"];
  return (
    <div>
      <div class="progress" role="progressbar" aria-label={t("progress", { ended: count(ended), total: count(counts.total) })} aria-valuemin={0} aria-valuemax={counts.total} aria-valuenow={ended}>
        {order.map((s) => counts[s] > 0 && <i class={`p-${s}`} style={{ width: `${(100 * counts[s]) / Math.max(1, counts.total)}%` }} />)}
      </div>
      <div class="legend" aria-live="polite">
        <span class="num">{t("progress", { ended: count(ended), total: count(counts.total) })}</span>
        {states.filter((s) => counts[s] > 0 || s === chosen).map((s) => (
          <button type="button" aria-pressed={s === chosen} data-state={s} onClick={() => setParams({ state: s === chosen ? "" : s, open: "" })}><i class={`p-${s}`} />{t(("state." + s) as Key)} <strong class="num">{count(counts[s])}</strong></button>
        ))}
      </div>
    </div>
  );
}

function Head({ c, live }: { c: Command; live: boolean | null }) {
  const now = useNow(1000);
  const codes = Object.entries(c.errors).sort((a, b) => b[1] - a[1]);
  return (
    <div class="command-head">
      <Facts facts={[
        [t("command"), <Code>{c.id}</Code>], [t("mode"), t(("mode." + c.mode) as Key)], [t("issued"), <Time at={c.created_at} />],
        c.finished_at ? [t("ended"), <><Time at={c.finished_at} /> <span class="mute">({span(Date.parse(c.finished_at) - Date.parse(c.created_at))})</span></>] : [t("deadline"), <>{t("in", { span: span(Date.parse(c.expires_at) - now) })}</>],
        ...(c.items.length ? [[t("items"), <span class="chips">{c.items.map((i) => <span class="chip"><Item obis={i} /></span>)}</span>] as [string, ComponentChildren]] : []),
        ...(codes.length ? [[t("failures"), <span class="chips">{codes.map(([code, n]) => <span class="chip" title={word("code", code)}><ErrorCode code={code} /> {count(n)}</span>)}</span>] as [string, ComponentChildren]] : []),
        ...(c.parent_id ? [[t("retry-of"), <a class="mono" href={to(["commands", c.parent_id])}>{c.parent_id}</a>] as [string, ComponentChildren]] : []),
        ...(live !== null ? [[t("stream"), live ? <Badge tone="ok">{t("stream.live")}</Badge> : <Badge tone="warn">{t("stream.broken")}</Badge>] as [string, ComponentChildren]] : []),
      ]} />
    </div>
  );
}

function Actions({ c, changed }: { c: Command; changed(): void }) {
  const [sure, setSure] = useState(false);
  const { doing, problem, run } = useDoing();
  const failed = c.counts.failed + c.counts.expired + c.counts.cancelled + c.counts.dead;
  const cancel = () => run(async () => {
    await call("POST", `/v1/commands/${c.id}/cancel`);
    setSure(false);
    announce(t("cancelled"));
    changed();
  });
  const retry = () => run(async () => { go(["commands", (await once<Command>(`/v1/commands/${c.id}/retry`)).id]); });
  const csv = () => run(async () => save(`command-${c.id}.csv`, await (await request("GET", `/v1/commands/${c.id}/operations`, { accept: "text/csv" })).blob()));
  return (
    <>
      {problem && !sure && <span class="small bad-text" role="alert">{problem.message || t("problem.lost")}</span>}
      {can("commands:write") && c.finished_at === null && <Button kind="danger" busy={doing} onClick={() => setSure(true)}>{t("cancel-command")}</Button>}
      {can("commands:write") && failed > 0 && <Button icon="refresh" busy={doing} onClick={retry}>{t("retry-failed", { n: count(failed) })}</Button>}
      <Button icon="download" busy={doing} onClick={csv}>{t("result-csv")}</Button>
      {sure && <Confirm danger title={t("cancel-command")} text={t("cancel-command-text")} action={t("cancel-command")} doing={doing} problem={problem} onYes={cancel} onNo={() => setSure(false)} />}
    </>
  );
}
