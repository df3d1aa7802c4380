// Sign-in, with a name and a password or with a token.

import { useEffect, useState } from "preact/hooks";
import { call, Problem, revived, sessionOver } from "../api";
import { useDoing } from "../data";
import { lang, t } from "../i18n";
import { session } from "../session";
import { useStore } from "../store";
import { choice, theme } from "../theme";
import type { Session } from "../types";
import { Button, Field, ProblemBox } from "../ui";

/** On plain HTTP a browser keeps the cookie only for this machine, and the server refuses others. */
const insecure = () => !isSecureContext;

export function SignIn({ ended, problem }: { ended: boolean; problem?: Problem }) {
  const [by, setBy] = useState<"user" | "token">("user");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [token, setToken] = useState("");
  const { doing, problem: refused, run, setProblem } = useDoing();
  const look = useStore(theme);
  const language = useStore(lang);
  useEffect(() => { document.title = t("sign-in") + " · Meterline"; }, []);
  const submit = (e: Event) => {
    e.preventDefault();
    void run(async () => {
      const who = await call<Session>("POST", "/v1/session", { body: by === "user" ? { name, password } : { token: token.trim() } });
      sessionOver.set(0);
      session.set(who);
      revived.set(revived.get() + 1);
    });
  };
  const choose = (what: "user" | "token") => { setBy(what); setProblem(undefined); };
  return (
    <main class="sign-in">
      <form onSubmit={submit} aria-labelledby="sign-in">
        <div class="brand"><svg class="mark" viewBox="0 0 32 32" width="30" height="30" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M6 20.5h5l2.5-10 5 14 3-9 1.5 5h3" /></svg><span>Meterline</span></div>
        <h1 id="sign-in">{t("sign-in.title")}</h1>
        {insecure() && <div class="problem" role="alert"><p class="problem-title">{t("sign-in.insecure")}</p><p>{t("sign-in.insecure-why")}</p><p class="mono">backend serve --http-tls-cert cert.pem --http-tls-key key.pem</p></div>}
        {ended && !refused && <p class="note" role="status">{t("sign-in.ended")}</p>}
        <div class="tabs" role="tablist" aria-label={t("sign-in")}>
          <button type="button" role="tab" aria-selected={by === "user"} onClick={() => choose("user")}>{t("sign-in.user")}</button>
          <button type="button" role="tab" aria-selected={by === "token"} onClick={() => choose("token")}>{t("sign-in.token")}</button>
        </div>
        {by === "user" ? (
          <>
            <Field label={t("name")}><input name="username" autocomplete="username" value={name} required autofocus maxLength={64} spellcheck={false} onInput={(e) => setName(e.currentTarget.value)} /></Field>
            <Field label={t("password")}><input name="password" type="password" autocomplete="current-password" value={password} required maxLength={200} onInput={(e) => setPassword(e.currentTarget.value)} /></Field>
          </>
        ) : (
          <Field label={t("token")} hint={t("sign-in.token-hint")}><input name="token" type="password" autocomplete="off" class="mono" value={token} required maxLength={200} onInput={(e) => setToken(e.currentTarget.value)} /></Field>
        )}
        <ProblemBox problem={refused ?? problem} />
        <Button type="submit" kind="primary" busy={doing}>{t("sign-in")}</Button>
        <p class="mute sign-in-foot">{by === "user" ? t("sign-in.user-hint") : ""}</p>
        <div class="me-buttons">
          <Button kind="plain" icon={look === "dark" ? "sun" : "moon"} label={look === "dark" ? t("theme.light") : t("theme.dark")} onClick={() => choice.set(look === "dark" ? "light" : "dark")} />
          <button type="button" class="btn plain" lang={language === "zh" ? "en" : "zh"} onClick={() => lang.set(language === "zh" ? "en" : "zh")}>{language === "zh" ? "English" : "中文"}</button>
        </div>
      </form>
    </main>
  );
}
