// How things stand, asked every five seconds.

import { useMemo } from "preact/hooks";
import { get } from "../api";
import { Chart } from "../chart";
import { useAsk } from "../data";
import { count, percent, span } from "../format";
import { t, word, type Key } from "../i18n";
import { to } from "../route";
import { can } from "../session";
import type { Overview } from "../types";
import { Badge, Code, Empty, Loading, Page, Panel, ProblemBox, Stale, Time, useNow } from "../ui";

export function OverviewPage() {
  const a = useAsk("overview", (signal) => get<Overview>("/v1/overview", {}, signal), 5000);
  const o = a.data;
  return (
    <Page title={t("nav.overview")} aside={<Stale at={a.at} error={a.error} />} actions={o && <span class="mute small">{t("as-of")} <Time at={o.at} relative /></span>}>
      {!o ? (a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />) : <Board o={o} />}
    </Page>
  );
}

function Board({ o }: { o: Overview }) {
  const times = useMemo(() => o.minutes.map((m) => Date.parse(m.at) / 1000), [o]);
  const rates = useMemo(() => ({
    readings: o.minutes.map((m) => m.readings),
    ok: o.minutes.map((m) => m.succeeded),
    bad: o.minutes.map((m) => m.failed + m.expired + m.dead),
    share: o.minutes.map((m) => { const all = m.succeeded + m.failed + m.expired + m.dead; return all ? (100 * m.succeeded) / all : null; }),
  }), [o]);
  return (
    <div class="stack">
      <Tiles o={o} />
      <div class="grid two">
        <Panel title={t("overview.readings-per-minute")}>
          <Chart label={t("overview.readings-chart", { n: count(sum(rates.readings)) })} times={times} series={[{ label: t("overview.readings"), color: "--accent", values: rates.readings, fill: true }]} />
        </Panel>
        <Panel title={t("overview.success-rate")}>
          <Chart label={t("overview.rate-chart", { rate: percent(sum(rates.ok), sum(rates.ok) + sum(rates.bad)) })} times={times} unit=" %" min={0} max={100}
            series={[{ label: t("overview.success-rate"), color: "--ok", values: rates.share, fill: true }]} />
        </Panel>
        <Panel title={t("overview.ended-per-minute")}>
          <Chart label={t("overview.ended-per-minute")} times={times} series={[{ label: t("state.succeeded"), color: "--ok", values: rates.ok }, { label: t("overview.not-succeeded"), color: "--bad", values: rates.bad, fill: true }]} />
        </Panel>
        <Failures o={o} />
        <Nodes o={o} />
      </div>
    </div>
  );
}

const sum = (all: number[]) => all.reduce((a, b) => a + b, 0);

function Tiles({ o }: { o: Overview }) {
  const now = useNow(5000);
  const ok = sum(o.minutes.map((m) => m.succeeded));
  const all = ok + sum(o.minutes.map((m) => m.failed + m.expired + m.dead));
  const waited = o.operations.oldest_waiting_at ? now - Date.parse(o.operations.oldest_waiting_at) : 0;
  const fill = o.backlog && o.backlog.bound > 0 ? o.backlog.entries / o.backlog.bound : 0;
  const minute = o.minutes.at(-1)?.readings ?? 0;
  const online = o.endpoints.online;
  return (
    <div class="tiles">
      <Tile title="overview.endpoints" href={can("fleet:read") ? to("devices", { online: "false" }) : undefined} value={count(online)} of={`/ ${count(o.endpoints.total)}`} tone={online !== null && online < o.endpoints.total ? "warn" : ""}
        note={online === null ? t("overview.presence-unknown") : t("overview.offline", { n: count(o.endpoints.total - online) })} />
      <Tile title="overview.readings-per-minute" value={count(minute)} note={t("overview.last-hour", { n: count(sum(o.minutes.map((m) => m.readings))) })} />
      <Tile title="overview.success-rate" href={to("operations", { state: "failed" })} value={percent(ok, all)} tone={all > 0 && ok / all < 0.9 ? "bad" : all > 0 && ok / all < 0.98 ? "warn" : ""} note={t("overview.of-ended", { n: count(all) })} />
      <Tile title="overview.oldest" href={to("operations", { state: "queued" })} value={o.operations.oldest_waiting_at ? span(waited) : t("none")} note={t("overview.open", { open: count(o.operations.open), waiting: count(o.operations.waiting) })} />
      <Tile title="overview.backlog" value={o.backlog ? count(o.backlog.entries) : "–"} tone={fill >= 0.8 ? "bad" : fill >= 0.5 ? "warn" : ""}
        note={o.backlog ? t("overview.backlog-note", { share: percent(o.backlog.entries, o.backlog.bound), age: span(o.backlog.oldest_s * 1000) }) : t("overview.no-backlog")} />
      <Tile title="overview.letters" href={can("deadletters:write", "audit:read") ? to("dead-letters") : undefined} value={count(o.dead_letters.open)} tone={o.dead_letters.open > 0 ? "warn" : ""} note={o.dead_letters.open > 0 ? t("overview.letters-note") : t("overview.no-letters")} />
    </div>
  );
}

function Tile({ title, value, of, note, tone, href }: { title: Key; value: string; of?: string; note: string; tone?: string; href?: string }) {
  const body = <><span class="tile-title">{t(title)}</span><span class="tile-value">{value}{of && <small> {of}</small>}</span><span class="tile-note">{note}</span></>;
  return href ? <a class={`tile ${tone}`} href={href}>{body}</a> : <div class={`tile ${tone}`}>{body}</div>;
}

function Failures({ o }: { o: Overview }) {
  const most = Math.max(1, ...o.failures.map((f) => f.n));
  return (
    <Panel title={t("overview.failures")}>
      {o.failures.length === 0 ? <Empty title={t("overview.no-failures")} /> : (
        <table class="table bars"><thead class="sr"><tr><th>{t("code")}</th><th>{t("number")}</th></tr></thead><tbody>
          {o.failures.map((f) => (
            <tr><th scope="row"><a class="mono" href={to("operations", { code: f.code })}>{f.code}</a><span class="mute small">{meaning(f.code)}</span></th>
              <td class="bar-cell"><span class="bar"><i style={{ width: `${(100 * f.n) / most}%` }} /></span></td><td class="right num">{count(f.n)}</td></tr>
          ))}
        </tbody></table>
      )}
    </Panel>
  );
}

const meaning = (code: string) => { const m = word("code", code); return m === code ? "" : m; };

function Nodes({ o }: { o: Overview }) {
  const health = (alive: boolean) => (alive ? <Badge tone="ok">{t("alive")}</Badge> : <Badge tone="bad">{t("lost-node")}</Badge>);
  return (
    <Panel title={t("overview.nodes")} flush cls="span">
      <table class="table">
        <thead><tr><th>{t("node")}</th><th>{t("kind")}</th><th>{t("health")}</th><th class="right">{t("overview.load")}</th></tr></thead>
        <tbody>
          {o.gateways.map((g) => <tr><td><Code>{g.id}</Code> <span class="mute small">{g.address}</span></td><td>{t("gateway")}</td><td>{health(g.alive)}</td><td class="right">{g.connections === null ? <span class="mute">–</span> : t("overview.connections", { n: count(g.connections) })}</td></tr>)}
          {o.backends.map((b) => <tr><td><Code>{b.id}</Code></td><td>{t("backend")}</td><td>{health(b.alive)}</td><td class="right">{t("overview.partitions", { n: count(b.partitions) })}</td></tr>)}
        </tbody>
      </table>
      {o.gateways.length + o.backends.length === 0 && <Empty title={t("overview.no-nodes")} />}
    </Panel>
  );
}

