// What devices reported, alarms first of all, and what looked like a break-in.

import { setParams, to, useRoute } from "../route";
import { usePages } from "../data";
import { fromLocalInput, localInput } from "../format";
import { t } from "../i18n";
import { Rows, type Column } from "../rows";
import { can } from "../session";
import type { DeviceEvent } from "../types";
import { Badge, Button, Empty, Field, FilterBar, LazyInput, Page, Time } from "../ui";

/** The data of an event in a line: names and values as text. */
export const EventData = ({ data }: { data: Record<string, unknown> }) => <span class="mono mute">{Object.entries(data).map(([k, v]) => `${k}=${typeof v === "object" ? JSON.stringify(v) : String(v)}`).join("  ") || "–"}</span>;

const tone = (type: string) => (type === "security" ? "bad" : /alarm|tamper|fault|error/i.test(type) ? "warn" : "mute");

const columnsOf = (): Column<DeviceEvent>[] => [
  { id: "at", title: t("received"), width: "148px", wide: true, cell: (e) => <Time at={e.received_at} /> },
  { id: "type", title: t("type"), width: "minmax(92px, 140px)", cell: (e) => <Badge tone={tone(e.type)}>{e.type}</Badge> },
  { id: "device", title: t("device"), width: "minmax(120px, 1fr)", cell: (e) => <a class="mono" href={to(["devices", e.device_id || e.endpoint_id])}>{e.device_id || e.endpoint_id}</a> },
  { id: "ago", title: t("received"), width: "100px", right: true, cell: (e) => <Time at={e.received_at} relative /> },
  { id: "data", title: t("data"), width: "minmax(120px, 2fr)", wide: true, cell: (e) => <EventData data={e.data} /> },
];

export function EventsPage() {
  const { params } = useRoute();
  const pages = usePages<DeviceEvent>("/v1/events", { device_id: params.device_id, type: params.type, from: params.from, to: params.to });
  const set = (name: string) => (value: string) => setParams({ [name]: value });
  const types = ["", "alarm", ...(can("audit:read") ? ["security"] : []), "hello"];
  return (
    <Page fill title={t("nav.events")} actions={<Button icon="refresh" onClick={pages.again}>{t("refresh")}</Button>}>
      <FilterBar active={Object.keys(params).length}>
        <Field label={t("device")}><LazyInput class="mono" name="device_id" value={params.device_id ?? ""} onValue={set("device_id")} /></Field>
        <Field label={t("type")}><LazyInput class="mono" name="type" value={params.type ?? ""} onValue={set("type")} /></Field>
        <Field cls="date" label={t("from")}><input type="datetime-local" value={localInput(params.from ?? "")} onChange={(e) => set("from")(fromLocalInput(e.currentTarget.value))} /></Field>
        <Field cls="date" label={t("to")}><input type="datetime-local" value={localInput(params.to ?? "")} onChange={(e) => set("to")(fromLocalInput(e.currentTarget.value))} /></Field>
        <div class="actions">{types.map((x) => <button type="button" class="chip" aria-pressed={(params.type ?? "") === x} onClick={() => set("type")(x)}>{x || t("all")}</button>)}</div>
      </FilterBar>
      <Rows label={t("nav.events")} pages={pages} columns={columnsOf()} rowKey={(e) => e.id} empty={<Empty title={t("events.none")} />} />
    </Page>
  );
}
