// The audit log: who did what to which object, and how it was before and after.

import { setParams, to, useRoute } from "../route";
import { usePages } from "../data";
import { fromLocalInput, localInput } from "../format";
import { t } from "../i18n";
import { Rows, type Column } from "../rows";
import type { AuditEntry } from "../types";
import { Button, Code, Empty, Facts, Field, FilterBar, LazyInput, Page, Panel, Select, Time, useNarrow } from "../ui";

const actions = ["device.create", "device.update", "device.delete", "device.credentials", "device.import", "group.create", "group.update", "group.delete", "group.add", "group.remove", "token.create", "token.delete", "user.create", "user.delete", "session.create", "session.delete", "command.issue", "command.retry", "command.cancel", "dead_letter.replay", "dead_letter.discard"];

const columnsOf = (params: Record<string, string>): Column<AuditEntry>[] => [
  { id: "at", title: t("audit.at"), width: "148px", cell: (e) => <a href={to("audit", { ...params, open: e.id })}><Time at={e.at} /></a> },
  { id: "actor", title: t("audit.actor"), width: "minmax(100px, 1fr)", cell: (e) => <>{e.actor.name || <Code>{e.actor.id}</Code>} <span class="mute small">{e.actor.kind}</span></> },
  { id: "action", title: t("audit.action"), width: "minmax(120px, 170px)", cell: (e) => <Code>{e.action}</Code> },
  { id: "object", title: t("audit.object"), width: "minmax(120px, 1.4fr)", wide: true, cell: (e) => <><span class="mute">{e.object.kind}</span> <Code>{e.object.id || "–"}</Code></> },
  { id: "remote", title: t("audit.remote"), width: "minmax(110px, 170px)", wide: true, cell: (e) => <span class="mono mute">{e.remote}</span> },
];

export function AuditPage() {
  const { params } = useRoute();
  const pages = usePages<AuditEntry>("/v1/audit", { actor: params.actor, action: params.action, object: params.object, from: params.from, to: params.to });
  const narrow = useNarrow();
  const open = pages.items.find((e) => e.id === params.open);
  const set = (name: string) => (value: string) => setParams({ [name]: value, open: "" });
  const columns = columnsOf(params);
  return (
    <Page fill title={t("nav.audit")} actions={<Button icon="refresh" onClick={pages.again}>{t("refresh")}</Button>}>
      <FilterBar active={Object.keys(params).filter((p) => p !== "open").length}>
        <Field label={t("audit.actor")}><LazyInput name="actor" value={params.actor ?? ""} onValue={set("actor")} /></Field>
        <Field label={t("audit.action")}><Select name="action" value={params.action ?? ""} all={t("all")} options={actions.map((x) => [x, x])} onChange={set("action")} /></Field>
        <Field label={t("audit.object")}><LazyInput name="object" class="mono" value={params.object ?? ""} onValue={set("object")} placeholder="device:m-001" /></Field>
        <Field cls="date" label={t("from")}><input type="datetime-local" value={localInput(params.from ?? "")} onChange={(e) => set("from")(fromLocalInput(e.currentTarget.value))} /></Field>
        <Field cls="date" label={t("to")}><input type="datetime-local" value={localInput(params.to ?? "")} onChange={(e) => set("to")(fromLocalInput(e.currentTarget.value))} /></Field>
      </FilterBar>
      <div class={open ? "split open" : "split"}>
        <Rows label={t("nav.audit")} pages={pages} columns={open && !narrow ? columns.filter((c) => c.id !== "remote") : columns} rowKey={(e) => e.id} selected={params.open} href={(e) => to("audit", { ...params, open: e.id })} empty={<Empty title={t("audit.none")} />} />
        {open && (
          <Panel cls="drawer" title={<Code>{open.action}</Code>} actions={<Button kind="plain" icon="close" label={t("close")} onClick={() => setParams({ open: "" })} />}>
            <div class="stack">
              <Facts facts={[[t("audit.at"), <Time at={open.at} />], [t("audit.actor"), `${open.actor.name} (${open.actor.kind})`], [t("audit.object"), <Code>{open.object.kind} {open.object.id}</Code>], [t("audit.remote"), <Code>{open.remote}</Code>], [t("request"), <Code>{open.request_id || "–"}</Code>]]} />
              <Diff before={open.before} after={open.after} />
            </div>
          </Panel>
        )}
      </div>
    </Page>
  );
}

/** What is another after than before, and what is there on one side only. */
function Diff({ before, after }: { before: Record<string, unknown> | null; after: Record<string, unknown> | null }) {
  const text = (o: Record<string, unknown> | null, k: string) => (o && k in o ? (typeof o[k] === "string" ? (o[k] as string) : JSON.stringify(o[k])) : "");
  const keys = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])].filter((k) => text(before, k) !== text(after, k));
  if (keys.length === 0) return <p class="mute">{t("audit.no-change")}</p>;
  return (
    <div class="diff" role="table" aria-label={t("audit.change")}>
      <span class="mute" /><span class="mute">{t("audit.before")}</span><span class="mute">{t("audit.after")}</span>
      {keys.map((k) => <><span class="mono mute">{k}</span><span class="mono old">{text(before, k) || "–"}</span><span class="mono new">{text(after, k) || "–"}</span></>)}
    </div>
  );
}
