// One group and its devices.

import { useState } from "preact/hooks";
import { call, get } from "../api";
import { useAsk, useDoing, usePages } from "../data";
import { count } from "../format";
import { t, type Key } from "../i18n";
import { go, to } from "../route";
import { Rows, type Column } from "../rows";
import { can } from "../session";
import type { Device, Group } from "../types";
import { announce, Button, Confirm, Dialog, Empty, Field, LinkButton, Loading, Page, ProblemBox, Stale, Time } from "../ui";
import { Presence } from "./devices";

const url = (name: string) => `/v1/groups/${encodeURIComponent(name)}`;

export function GroupPage({ name }: { name: string }) {
  const a = useAsk("group/" + name, (signal) => get<Group>(url(name), {}, signal));
  const pages = usePages<Device>("/v1/devices", { group: name });
  const [asks, setAsks] = useState<"" | "delete" | "add">("");
  const { doing, problem, run } = useDoing();
  const g = a.data;
  if (!g) return <Page title={name}>{a.error ? <ProblemBox problem={a.error} again={a.again} /> : <Loading />}</Page>;
  const write = can("fleet:write");
  const drop = (id: string) => run(async () => {
    await call("DELETE", url(name) + "/devices", { body: { device_ids: [id] } });
    announce(t("groups.dropped", { id }));
    pages.patch((items) => items.filter((d) => d.id !== id));
    a.again();
  });
  const remove = () => run(async () => { await call("DELETE", url(name)); go("groups"); });
  const columns: Column<Device>[] = [
    { id: "id", title: t("device"), width: "minmax(130px, 1.3fr)", cell: (d) => <a class="mono" href={to(["devices", d.id])}>{d.id}</a> },
    { id: "name", title: t("name"), width: "minmax(110px, 1.4fr)", wide: true, cell: (d) => d.name },
    { id: "kind", title: t("kind"), width: "84px", wide: true, cell: (d) => t(("device-kind." + d.kind) as Key) },
    { id: "presence", title: t("presence"), width: "96px", cell: (d) => <Presence d={d} /> },
    { id: "read", title: t("last-read"), width: "130px", wide: true, right: true, cell: (d) => <Time at={d.last_read_at} relative /> },
    ...(write ? [{ id: "drop", title: "", width: "40px", right: true, cell: (d: Device) => <Button kind="plain" icon="close" label={t("groups.drop", { id: d.id })} onClick={() => drop(d.id)} /> } as Column<Device>] : []),
  ];
  return (
    <Page fill title={g.name} aside={<><span class="mute">{g.description} · {t("groups.devices", { n: count(g.devices) })}</span><Stale at={a.at} error={a.error} /></>} actions={<>
      {can("commands:write") && <LinkButton kind="primary" icon="read" href={to("read", { group: g.name })}>{t("nav.read")}</LinkButton>}
      <LinkButton href={to("operations", { group: g.name })}>{t("nav.operations")}</LinkButton>
      {write && <Button icon="plus" onClick={() => setAsks("add")}>{t("groups.add")}</Button>}
      {write && <Button kind="danger" onClick={() => setAsks("delete")}>{t("delete")}</Button>}
    </>}>
      {asks === "" && <ProblemBox problem={problem} />}
      <Rows label={t("nav.devices")} pages={pages} columns={columns} rowKey={(d) => d.id} href={(d) => to(["devices", d.id])} empty={<Empty title={t("groups.empty")}>{write && <Button icon="plus" onClick={() => setAsks("add")}>{t("groups.add")}</Button>}</Empty>} />
      {asks === "delete" && <Confirm danger title={t("delete")} text={t("groups.delete-text", { name })} action={t("delete")} doing={doing} problem={problem} onYes={remove} onNo={() => setAsks("")} />}
      {asks === "add" && <Add name={name} close={() => setAsks("")} added={() => { pages.again(); a.again(); }} />}
    </Page>
  );
}

function Add({ name, close, added }: { name: string; close(): void; added(): void }) {
  const [ids, setIDs] = useState("");
  const { doing, problem, run } = useDoing();
  const submit = (e: Event) => {
    e.preventDefault();
    void run(async () => {
      const all = ids.split(/[\s,;，；]+/).filter(Boolean);
      await call("PUT", url(name) + "/devices", { body: { device_ids: all } });
      announce(t("groups.added", { n: all.length }));
      added();
      close();
    });
  };
  return (
    <Dialog title={t("groups.add")} onClose={close}>
      <form class="form" onSubmit={submit}>
        <Field label={t("groups.ids")} hint={t("groups.ids-hint")}><textarea class="mono" rows={6} required value={ids} onInput={(e) => setIDs(e.currentTarget.value)} /></Field>
        <ProblemBox problem={problem} />
        <div class="form-end"><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="primary" busy={doing}>{t("groups.add")}</Button></div>
      </form>
    </Dialog>
  );
}
