// Dead letters: what could not be understood or carried out, by cause; looked at, replayed and discarded, one by one or many at once.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { call, get, once } from "../api";
import { useAsk, useDoing, usePages } from "../data";
import { count } from "../format";
import { t, type Key } from "../i18n";
import { setParams, to, useRoute } from "../route";
import { Rows, type Column } from "../rows";
import { can } from "../session";
import type { BulkDecision, Cause, Letter, List } from "../types";
import { announce, Badge, Button, Code, Confirm, Empty, Facts, Field, FilterBar, LazyInput, Loading, Page, Panel, ProblemBox, Select, Stale, Time, useNarrow } from "../ui";

const columnsOf = (open: string): Column<Letter>[] => [
  { id: "at", title: t("created"), width: "148px", wide: true, cell: (l) => <Time at={l.created_at} /> },
  { id: "cause", title: t("cause"), width: "minmax(150px, 1.2fr)", cell: (l) => <a class="mono" href={to("dead-letters", { ...open_(open), open: l.id })}>{l.cause}</a> },
  { id: "source", title: t("letters.source"), width: "96px", wide: true, cell: (l) => t(("letters." + l.source) as Key) },
  { id: "from", title: t("device"), width: "minmax(110px, 1fr)", cell: (l) => <Code>{l.device_id || l.endpoint_id || "–"}</Code> },
  { id: "detail", title: t("letters.detail"), width: "minmax(120px, 2fr)", wide: true, cell: (l) => <span class="mute">{l.detail}</span> },
  { id: "status", title: t("state"), width: "104px", cell: (l) => <Status l={l} /> },
];
const open_ = (search: string) => Object.fromEntries(new URLSearchParams(search));

const Status = ({ l }: { l: Letter }) => <Badge tone={l.status === "open" ? "warn" : l.status === "replayed" ? "info" : "mute"}>{t(("letters.status-" + l.status) as Key)}</Badge>;

export function LettersPage() {
  const { params } = useRoute();
  const q = { status: params.status ?? "open", cause: params.cause, source: params.source, endpoint_id: params.endpoint_id, device_id: params.device_id };
  const list = { ...q, status: q.status === "all" ? "" : q.status };
  const pages = usePages<Letter>("/v1/dead-letters", list);
  const causes = useAsk("causes?" + JSON.stringify(list), (signal) => get<List<Cause>>("/v1/dead-letters/causes", { ...list, cause: "" }, signal), 10_000);
  const narrow = useNarrow();
  const again = () => { pages.again(); causes.again(); };
  const set = (name: string) => (value: string) => setParams({ [name]: value, open: "" });
  const columns = columnsOf(new URLSearchParams(params).toString());
  return (
    <Page fill title={t("nav.letters")} aside={<Stale at={causes.at} error={causes.error} />} actions={<><Button icon="refresh" onClick={again}>{t("refresh")}</Button>{can("deadletters:write") && q.status === "open" && pages.items.length > 0 && <Bulk q={q} decided={again} />}</>}>
      <FilterBar active={Object.keys(params).filter((p) => p !== "open").length}>
        <Field label={t("state")}><Select value={q.status} options={["open", "replayed", "discarded", "all"].map((s) => [s, s === "all" ? t("all") : t(("letters.status-" + s) as Key)])} onChange={set("status")} /></Field>
        <Field label={t("letters.source")}><Select value={params.source ?? ""} all={t("all")} options={[["uplink", t("letters.uplink")], ["operation", t("letters.operation")]]} onChange={set("source")} /></Field>
        <Field label={t("endpoint")}><LazyInput class="mono" value={params.endpoint_id ?? ""} onValue={set("endpoint_id")} /></Field>
        <Field label={t("device")}><LazyInput class="mono" value={params.device_id ?? ""} onValue={set("device_id")} /></Field>
        <div class="chips" role="group" aria-label={t("letters.by-cause")}>
          {(causes.data?.items ?? []).map((c) => <button type="button" class="chip" aria-pressed={params.cause === c.cause} onClick={() => set("cause")(params.cause === c.cause ? "" : c.cause)}><span class="mono">{c.cause}</span> <strong>{count(c.count)}</strong></button>)}
        </div>
      </FilterBar>
      <div class={params.open ? "split open" : "split"}>
        <Rows label={t("nav.letters")} pages={pages} columns={params.open && !narrow ? columns.filter((c) => c.id !== "detail" && c.id !== "source") : columns} rowKey={(l) => l.id} selected={params.open} href={(l) => to("dead-letters", { ...params, open: l.id })}
          empty={q.status === "open" && !params.cause ? <Empty title={t("letters.none")}><p>{t("letters.none-text")}</p></Empty> : <Empty title={t("letters.none-match")} />} />
        {params.open && <Detail id={params.open} decided={again} />}
      </div>
    </Page>
  );
}

function Detail({ id, decided }: { id: string; decided(): void }) {
  const a = useAsk("letter/" + id, (signal) => get<Letter>("/v1/dead-letters/" + encodeURIComponent(id), {}, signal));
  const { doing, problem, run } = useDoing();
  const l = a.data;
  const decide = (what: "replay" | "discard") => run(async () => {
    const r = await call<Letter>("POST", `/v1/dead-letters/${encodeURIComponent(id)}/${what}`);
    announce(r.again ? t("letters.again", { n: r.again }) : t(what === "replay" ? "letters.replayed" : "letters.discarded"));
    a.again();
    decided();
  });
  return (
    <Panel cls="drawer" title={l ? <Code>{l.cause}</Code> : t("letters.one")} actions={<Button kind="plain" icon="close" label={t("close")} onClick={() => setParams({ open: "" })} />}>
      {!l ? (a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />) : (
        <div class="stack">
          <div class="actions"><Status l={l} />{l.again ? <Badge tone="warn">{t("letters.again", { n: l.again })}</Badge> : null}</div>
          <p>{l.detail}</p>
          {can("deadletters:write") && l.status === "open" && (
            <div class="actions"><Button kind="primary" icon="refresh" busy={doing} onClick={() => decide("replay")}>{t("letters.replay")}</Button><Button kind="danger" busy={doing} onClick={() => decide("discard")}>{t("letters.discard")}</Button></div>
          )}
          <ProblemBox problem={problem} />
          {l.payload_bytes > 0 && <section aria-labelledby="payload"><h3 id="payload">{t("letters.payload", { n: count(l.payload_bytes) })}{l.payload_cut && " · " + t("letters.cut")}</h3><pre tabIndex={0}>{l.payload_text ?? l.payload}</pre>{l.payload_text === undefined && <p class="mute small">{t("letters.base64")}</p>}</section>}
          <Facts facts={[
            [t("letters.source"), t(("letters." + l.source) as Key)], [t("received"), <Time at={l.received_at} />],
            ...(l.endpoint_id ? [[t("endpoint"), <a class="mono" href={to(["devices", l.endpoint_id])}>{l.endpoint_id}</a>] as [string, ComponentChildren]] : []),
            ...(l.device_id ? [[t("device"), <a class="mono" href={to(["devices", l.device_id])}>{l.device_id}</a>] as [string, ComponentChildren]] : []),
            ...(l.command_id ? [[t("command"), <a class="mono" href={to(["commands", l.command_id])}>{l.command_id}</a>] as [string, ComponentChildren]] : []),
            ...(l.new_command_id ? [[t("letters.new-command"), <a class="mono" href={to(["commands", l.new_command_id])}>{l.new_command_id}</a>] as [string, ComponentChildren]] : []),
            ...(l.topic ? [["Topic", <Code>{l.topic}</Code>] as [string, ComponentChildren]] : []),
            [t("gateway"), l.gateway ? <Code>{l.gateway}</Code> : "–"], [t("letters.attempt"), l.attempt],
            ...(l.parent_id ? [[t("letters.parent"), <a class="mono" href={to("dead-letters", { status: "all", open: l.parent_id })}>{l.parent_id}</a>] as [string, ComponentChildren]] : []),
            ...(l.decided_at ? [[t("letters.decided"), <><Time at={l.decided_at} /><br />{l.decision?.token_name}</>] as [string, ComponentChildren]] : []),
          ]} />
        </div>
      )}
    </Panel>
  );
}

/** Decides all that the filters leave, in steps of what one call may do. */
function Bulk({ q, decided }: { q: Record<string, string | undefined>; decided(): void }) {
  const [what, setWhat] = useState<"" | "replay" | "discard">("");
  const [n, setN] = useState(0);
  const { doing, problem, run, setProblem } = useDoing();
  const { status: _, ...narrow } = q;
  const selection = Object.fromEntries(Object.entries(narrow).filter(([, v]) => v));
  const all = Object.keys(selection).length === 0;
  const go = () => run(async () => {
    let sum = 0;
    const to = new Date().toISOString(); // what fails again meanwhile is not decided again
    for (let more = true; more;) {
      const r = await once<BulkDecision>(`/v1/dead-letters/${what}`, { ...selection, to });
      setN(sum += r.letters);
      more = r.more && r.letters > 0;
    }
    announce(t(what === "replay" ? "letters.bulk-replayed" : "letters.bulk-discarded", { n: count(sum) }));
    setWhat("");
    decided();
  });
  return (
    <>
      <Button onClick={() => setWhat("replay")}>{t("letters.replay-all")}</Button>
      <Button onClick={() => setWhat("discard")}>{t("letters.discard-all")}</Button>
      {what && <Confirm danger={what === "discard"} title={t(what === "replay" ? "letters.replay-all" : "letters.discard-all")} action={doing && n ? count(n) : t(what === "replay" ? "letters.replay" : "letters.discard")} doing={doing} problem={problem}
        text={<p>{t(what === "replay" ? "letters.replay-all-text" : "letters.discard-all-text")} {all ? t("letters.everything") : <Code>{Object.entries(selection).map(([k, v]) => `${k}=${v}`).join(" ")}</Code>}</p>} onYes={go} onNo={() => { setWhat(""); setProblem(undefined); }} />}
    </>
  );
}
