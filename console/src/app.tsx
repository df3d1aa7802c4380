// Who is here, the frame around all pages, and which page it is.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { call, get, lostSince, Problem, revived, sessionOver } from "./api";
import { lang, t, type Key } from "./i18n";
import { AuditPage } from "./pages/audit";
import { CommandPage } from "./pages/command";
import { DevicePage } from "./pages/device";
import { DevicesPage } from "./pages/devices";
import { EventsPage } from "./pages/events";
import { GroupPage } from "./pages/group";
import { GroupsPage } from "./pages/groups";
import { ImportPage } from "./pages/import";
import { LettersPage } from "./pages/letters";
import { OperationsPage } from "./pages/operations";
import { OverviewPage } from "./pages/overview";
import { ReadPage } from "./pages/read";
import { SignIn } from "./pages/signin";
import { TokensPage } from "./pages/tokens";
import { span } from "./format";
import { go, to, useRoute } from "./route";
import { can, session, signedIn } from "./session";
import { useStore } from "./store";
import { choice, theme } from "./theme";
import type { Session } from "./types";
import { Button, Empty, Icon, LinkButton, Loading, Notices, Page, useNow, type IconName } from "./ui";

type Place = { path: string; title: Key; icon: IconName; needs: string[]; page(rest: string[]): JSX.Element };

const places: Place[][] = [
  [
    { path: "overview", title: "nav.overview", icon: "overview", needs: ["commands:read"], page: () => <OverviewPage /> },
    { path: "read", title: "nav.read", icon: "read", needs: ["commands:read"], page: () => <ReadPage /> },
    { path: "operations", title: "nav.operations", icon: "operations", needs: ["commands:read"], page: () => <OperationsPage /> },
  ],
  [
    { path: "devices", title: "nav.devices", icon: "devices", needs: ["fleet:read"], page: ([id]) => (id === "import" ? <ImportPage /> : id ? <DevicePage key={id} id={id} /> : <DevicesPage />) },
    { path: "groups", title: "nav.groups", icon: "groups", needs: ["fleet:read"], page: ([name]) => (name ? <GroupPage key={name} name={name} /> : <GroupsPage />) },
    { path: "events", title: "nav.events", icon: "events", needs: ["fleet:read", "readings:read", "audit:read"], page: () => <EventsPage /> },
  ],
  [
    { path: "dead-letters", title: "nav.letters", icon: "letters", needs: ["deadletters:write", "audit:read"], page: () => <LettersPage /> },
    { path: "tokens", title: "nav.tokens", icon: "tokens", needs: ["tokens:admin"], page: () => <TokensPage /> },
    { path: "audit", title: "nav.audit", icon: "audit", needs: ["audit:read"], page: () => <AuditPage /> },
  ],
];
// Pages that are reached from others.
const inner: Place[] = [{ path: "commands", title: "nav.read", icon: "read", needs: ["commands:read"], page: ([id]) => <CommandPage key={id} id={id ?? ""} /> }];

export function App() {
  const language = useStore(lang);
  const who = useStore(session);
  const over = useStore(sessionOver);
  const [asked, setAsked] = useState(false);
  const [problem, setProblem] = useState<Problem>();

  useEffect(() => { document.documentElement.lang = language === "zh" ? "zh-CN" : "en"; }, [language]);
  const back = useStore(revived);
  useEffect(() => {
    if (session.get()) return;
    if (!signedIn.get()) return setAsked(true); // there is nothing to ask for
    get<Session>("/v1/session").then((s) => session.set(s), (e) => {
      if (e instanceof Problem && e.status === 401) signedIn.set(false);
      else setProblem(e instanceof Problem ? e : undefined);
    }).finally(() => setAsked(true));
  }, [back]);
  useEffect(() => { if (over) session.set(null); }, [over]);

  if (who) return <div key={language}><Shell who={who} /></div>;
  return <div key={language}>{asked ? <SignIn ended={over > 0} problem={problem} /> : <Loading />}</div>;
}

function Shell({ who }: { who: Session }) {
  const route = useRoute();
  const [open, setOpen] = useState(false);
  const where = route.path[0] ?? "overview";
  useEffect(() => {
    setOpen(false);
    document.getElementById("main")?.scrollTo(0, 0);
  }, [route.path.join("/")]);
  const all = [...places.flat(), ...inner];
  const place = all.find((p) => p.path === where);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.querySelector<HTMLElement>("#main h1")?.focus(); }}>{t("skip")}</a>
      <header class="top">
        <Button kind="plain" icon="menu" label={t("menu")} aria-expanded={open} aria-controls="nav" onClick={() => setOpen(!open)} />
        <a class="brand" href={to("overview")}><Mark /><span>Meterline</span></a>
      </header>
      <nav id="nav" class={open ? "nav open" : "nav"} aria-label={t("nav")}>
        <a class="brand" href={to("overview")}><Mark /><span>Meterline</span></a>
        {places.map((block) => (
          <ul>
            {block.map((p) => (
              <li class={can(...p.needs) ? "" : "locked"}>
                <a href={to(p.path)} aria-current={place?.title === p.title ? "page" : undefined}><Icon name={p.icon} /><span>{t(p.title)}</span></a>
              </li>
            ))}
          </ul>
        ))}
        <Me who={who} />
      </nav>
      <main id="main">
        <Lost />
        {!place ? <NotFound /> : can(...place.needs) ? <div class="place" key={where}>{place.page(route.path.slice(1))}</div> : <Forbidden place={place} who={who} />}
      </main>
      <Notices />
    </div>
  );
}

const Mark = () => <svg class="mark" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M6 20.5h5l2.5-10 5 14 3-9 1.5 5h3" /></svg>;

function Me({ who }: { who: Session }) {
  const language = useStore(lang);
  const look = useStore(theme);
  const leave = async () => {
    try { await call("DELETE", "/v1/session"); } catch (e) { if (e instanceof Problem && e.lost) return; }
    session.set(null);
    go("overview");
  };
  return (
    <div class="me">
      <div class="who"><strong>{who.name}</strong><span class="mute">{who.tenant} · {who.role ? t(("role." + who.role) as Key) : t("role.none")}</span></div>
      <div class="me-buttons">
        <Button kind="plain" icon={look === "dark" ? "sun" : "moon"} label={look === "dark" ? t("theme.light") : t("theme.dark")} onClick={() => choice.set(look === "dark" ? "light" : "dark")} />
        <button type="button" class="btn plain" lang={language === "zh" ? "en" : "zh"} onClick={() => lang.set(language === "zh" ? "en" : "zh")}>{language === "zh" ? "English" : "中文"}</button>
        <Button kind="plain" icon="out" label={t("sign-out")} onClick={leave} />
      </div>
    </div>
  );
}

/** Says since when the API has not answered. What is shown stays. */
function Lost() {
  const since = useStore(lostSince);
  const now = useNow(1000);
  return <div role="status" aria-live="polite">{since !== null && <p class="lost"><Icon name="warn" />{t("lost", { span: span(now - since) })}</p>}</div>;
}

const NotFound = () => <Page title={t("not-found")}><Empty title={t("not-found.title")}><LinkButton href={to("overview")}>{t("nav.overview")}</LinkButton></Empty></Page>;

function Forbidden({ place, who }: { place: Place; who: Session }) {
  return (
    <Page title={t(place.title)}>
      <div class="problem forbidden" role="alert">
        <p class="problem-title"><Icon name="warn" />{t("forbidden.title")}</p>
        <p>{t("forbidden.text", { name: who.name, scopes: place.needs.join(", ") })}</p>
        <p class="mute">{t("forbidden.advice")}</p>
      </div>
    </Page>
  );
}
