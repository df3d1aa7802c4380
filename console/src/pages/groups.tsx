// The groups of devices.

import { useState } from "preact/hooks";
import { call } from "../api";
import { useDoing, usePages } from "../data";
import { count } from "../format";
import { t } from "../i18n";
import { go, to } from "../route";
import { Rows, type Column } from "../rows";
import { can } from "../session";
import type { Group } from "../types";
import { Button, Dialog, Empty, Field, fieldError, Page, ProblemBox, Time } from "../ui";

const columnsOf = (): Column<Group>[] => [
  { id: "name", title: t("name"), width: "minmax(120px, 1fr)", cell: (g) => <a href={to(["groups", g.name])}>{g.name}</a> },
  { id: "description", title: t("description"), width: "minmax(120px, 2fr)", wide: true, cell: (g) => g.description || <span class="mute">–</span> },
  { id: "devices", title: t("nav.devices"), width: "90px", right: true, cell: (g) => count(g.devices) },
  { id: "created", title: t("created"), width: "150px", wide: true, right: true, cell: (g) => <Time at={g.created_at} /> },
];

export function GroupsPage() {
  const pages = usePages<Group>("/v1/groups", {});
  const [making, setMaking] = useState(false);
  return (
    <Page fill title={t("nav.groups")} actions={<><Button icon="refresh" onClick={pages.again}>{t("refresh")}</Button>{can("fleet:write") && <Button kind="primary" icon="plus" onClick={() => setMaking(true)}>{t("groups.new")}</Button>}</>}>
      <Rows label={t("nav.groups")} pages={pages} columns={columnsOf()} rowKey={(g) => g.name} href={(g) => to(["groups", g.name])} empty={<Empty title={t("groups.none")}><p>{t("groups.none-advice")}</p></Empty>} />
      {making && <NewGroup close={() => setMaking(false)} />}
    </Page>
  );
}

function NewGroup({ close }: { close(): void }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const { doing, problem, run } = useDoing();
  const submit = (e: Event) => {
    e.preventDefault();
    void run(async () => {
      await call("POST", "/v1/groups", { body: { name, description: description || undefined } });
      go(["groups", name]);
    });
  };
  return (
    <Dialog title={t("groups.new")} onClose={close}>
      <form class="form" onSubmit={submit}>
        <Field label={t("name")} error={fieldError(problem, "/name")}><input name="group-name" required maxLength={64} value={name} onInput={(e) => setName(e.currentTarget.value)} /></Field>
        <Field label={t("description")} error={fieldError(problem, "/description")}><input value={description} onInput={(e) => setDescription(e.currentTarget.value)} /></Field>
        <ProblemBox problem={problem} />
        <div class="form-end"><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="primary" busy={doing}>{t("create")}</Button></div>
      </form>
    </Dialog>
  );
}
