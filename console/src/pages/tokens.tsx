// API tokens: made, shown once, and revoked.

import { useState } from "preact/hooks";
import { call } from "../api";
import { useDoing, usePages } from "../data";
import { fromLocalInput } from "../format";
import { t } from "../i18n";
import { Rows, type Column } from "../rows";
import { can, session } from "../session";
import type { Token } from "../types";
import { announce, Badge, Button, Code, Confirm, Dialog, Empty, Field, fieldError, Page, ProblemBox, Secret, Time } from "../ui";

const scopes = ["fleet:read", "fleet:write", "commands:read", "commands:write", "commands:control", "readings:read", "deadletters:write", "audit:read", "tokens:admin", "mqtt", "mqtt:admin", "admin"];

export function TokensPage() {
  const pages = usePages<Token>("/v1/tokens", {});
  const [making, setMaking] = useState(false);
  const [gone, setGone] = useState<Token>();
  const { doing, problem, run } = useDoing();
  const revoke = () => run(async () => {
    await call("DELETE", "/v1/tokens/" + encodeURIComponent(gone!.id));
    announce(t("tokens.revoked"));
    setGone(undefined);
    pages.again();
  });
  const columns: Column<Token>[] = [
    { id: "name", title: t("name"), width: "minmax(110px, 1fr)", cell: (x) => x.name },
    { id: "scopes", title: t("tokens.scopes"), width: "minmax(120px, 2fr)", wide: true, cell: (x) => <span class="mono">{x.scopes.join(" ")}</span> },
    { id: "created", title: t("created"), width: "148px", wide: true, cell: (x) => <Time at={x.created_at} /> },
    { id: "expires", title: t("tokens.ends"), width: "minmax(76px, 150px)", cell: (x) => (x.expires_at === null ? <span class="mute">{t("never")}</span> : Date.parse(x.expires_at) < Date.now() ? <Badge tone="mute">{t("tokens.over")}</Badge> : <Time at={x.expires_at} />) },
    { id: "id", title: "ID", width: "minmax(90px, 290px)", wide: true, cell: (x) => <Code>{x.id}</Code> },
    { id: "revoke", title: "", width: "64px", right: true, cell: (x) => <button type="button" class="link bad-text" onClick={() => setGone(x)}>{t("tokens.revoke")}</button> },
  ];
  return (
    <Page fill title={t("nav.tokens")} actions={<><Button icon="refresh" onClick={pages.again}>{t("refresh")}</Button><Button kind="primary" icon="plus" onClick={() => setMaking(true)}>{t("tokens.new")}</Button></>}>
      <Rows label={t("nav.tokens")} pages={pages} columns={columns} rowKey={(x) => x.id} empty={<Empty title={t("tokens.none")} />} />
      {making && <NewToken close={() => setMaking(false)} made={pages.again} />}
      {gone && <Confirm danger title={t("tokens.revoke")} text={t("tokens.revoke-text", { name: gone.name })} action={t("tokens.revoke")} doing={doing} problem={problem} onYes={revoke} onNo={() => setGone(undefined)} />}
    </Page>
  );
}

function NewToken({ close, made }: { close(): void; made(): void }) {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<string[]>(["fleet:read", "commands:read", "readings:read"]);
  const [ends, setEnds] = useState("");
  const [token, setToken] = useState("");
  const { doing, problem, run } = useDoing();
  const submit = (e: Event) => {
    e.preventDefault();
    void run(async () => {
      setToken((await call<Token>("POST", "/v1/tokens", { body: { name, scopes: chosen, expires_at: fromLocalInput(ends) || undefined } })).token ?? "");
      made();
    });
  };
  if (token) return <Dialog title={t("tokens.made")} onClose={close}><p class="note warn">{t("tokens.once")}</p><Secret text={token} /><div class="form-end"><Button kind="primary" onClick={close}>{t("close")}</Button></div></Dialog>;
  const own = session.get()?.scopes ?? [];
  return (
    <Dialog title={t("tokens.new")} onClose={close}>
      <form class="form" onSubmit={submit}>
        <Field label={t("name")} error={fieldError(problem, "/name")}><input name="token-name" required value={name} onInput={(e) => setName(e.currentTarget.value)} /></Field>
        <div class="field"><span class="label" id="scopes">{t("tokens.scopes")}</span>
          <div class="picker" role="group" aria-labelledby="scopes">
            {scopes.filter((s) => own.includes("admin") || own.includes(s)).map((s) => <label><input type="checkbox" checked={chosen.includes(s)} onChange={() => setChosen(chosen.includes(s) ? chosen.filter((x) => x !== s) : [...chosen, s])} /><span class="mono grow">{s}</span></label>)}
          </div>
          {!can("admin") && <span class="hint">{t("tokens.own-only")}</span>}
        </div>
        <Field label={t("tokens.ends")} hint={t("tokens.ends-hint")} error={fieldError(problem, "/expires_at")}><input type="datetime-local" value={ends} onInput={(e) => setEnds(e.currentTarget.value)} /></Field>
        <ProblemBox problem={problem} />
        <div class="form-end"><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="primary" busy={doing} disabled={chosen.length === 0}>{t("create")}</Button></div>
      </form>
    </Dialog>
  );
}
