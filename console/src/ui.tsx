// The small parts that all pages are made of.

import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { lostSince, Problem } from "./api";
import { ago, clock, span, when } from "./format";
import { t, word, type Key } from "./i18n";
import { itemName } from "./items";
import { to } from "./route";
import { session } from "./session";
import { store, useStore, type Store } from "./store";

// One clock for all that show it: a list draws its rows anew while one scrolls, and a timer each would cost more than the row.
const clocks = new Map<number, Store<number>>();
function clockOf(every: number): Store<number> {
  let c = clocks.get(every);
  if (!c) {
    c = store(Date.now());
    clocks.set(every, c);
    setInterval(() => c!.set(Date.now()), every);
  }
  return c;
}

/** Now, again and again. */
export const useNow = (every = 5000): number => useStore(clockOf(every));

const narrowQuery = matchMedia("(max-width: 760px)");
const narrow = store(narrowQuery.matches);
narrowQuery.addEventListener("change", () => narrow.set(narrowQuery.matches));
export const useNarrow = () => useStore(narrow);

const paths = {
  overview: "M2 13h12M4 11V7m4 4V3m4 8V6", read: "M8 2v5l3 2M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z", operations: "M2 4h2m3 0h7M2 8h2m3 0h7M2 12h2m3 0h7",
  devices: "M3 2h10v12H3zM5.5 5h5M8 11.2a1.3 1.3 0 1 0 0-2.6 1.3 1.3 0 0 0 0 2.6Z", groups: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
  events: "M8 2a4 4 0 0 0-4 4v3l-1.5 2.5h11L12 9V6a4 4 0 0 0-4-4ZM6.5 14h3", letters: "M2 4h12v9H2zM2 4l6 5 6-5",
  tokens: "M10 6a3 3 0 1 0-2.5 3L9 10.5h1.5V12H12v1.5h2V11.5L10 8Z", audit: "M4 2h6l3 3v9H4zM10 2v3h3M6.5 8h4M6.5 11h4",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10ZM11 11l3 3", close: "M3.5 3.5l9 9M12.5 3.5l-9 9", refresh: "M13 8a5 5 0 1 1-1.5-3.5L13.5 6M13.5 2.5V6H10", download: "M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1", moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5Z",
  menu: "M2 4h12M2 8h12M2 12h12", copy: "M5 5h8v9H5zM3 11V2h8", warn: "M8 2 1.5 13.5h13ZM8 6.5v3M8 11.5v.3", out: "M6 2H3v12h3M10 5l3 3-3 3M13 8H6", plus: "M8 3v10M3 8h10", check: "M3 8.5 6.5 12 13 4.5",
};
export type IconName = keyof typeof paths;
export const Icon = ({ name }: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><path d={paths[name]} /></svg>
);

type ButtonProps = { kind?: "primary" | "danger" | "plain"; icon?: IconName; busy?: boolean; label?: string; children?: ComponentChildren } & Omit<ButtonHTMLAttributes<HTMLButtonElement>, "icon" | "label">;
export function Button({ kind, icon, busy, label, children, disabled, ...rest }: ButtonProps) {
  return (
    <button type="button" {...rest} disabled={disabled || busy} aria-busy={busy} aria-label={label} title={label} class={`btn ${kind ?? ""} ${children ? "" : "only-icon"}`}>
      {icon && <Icon name={icon} />}{children && <span>{children}</span>}
    </button>
  );
}

export const LinkButton = ({ href, kind, icon, children }: { href: string; kind?: "primary"; icon?: IconName; children: ComponentChildren }) => (
  <a class={`btn ${kind ?? ""}`} href={href}>{icon && <Icon name={icon} />}<span>{children}</span></a>
);

export const StateBadge = ({ state }: { state: string }) => <span class={`badge s-${state}`}>{word("state", state)}</span>;
export const Badge = ({ tone, children }: { tone: "ok" | "warn" | "bad" | "info" | "mute"; children: ComponentChildren }) => <span class={`badge t-${tone}`}>{children}</span>;
export const Code = ({ children }: { children: ComponentChildren }) => <span class="mono">{children}</span>;

/** A code of an error, with what it means where that is known. */
export function ErrorCode({ code }: { code: string }) {
  const meaning = word("code", code);
  return <span class="mono bad-text" title={meaning === `code.${code}` ? code : meaning}>{code}</span>;
}

export function Time({ at, relative }: { at: string | null | undefined; relative?: boolean }) {
  const now = useNow(relative ? 5000 : 3_600_000);
  if (!at) return <span class="mute">{relative ? t("never") : "–"}</span>;
  return <time dateTime={at} title={when(at)}>{relative ? ago(at, now) : when(at)}</time>;
}

export function Item({ obis }: { obis: string }) {
  const name = itemName(obis);
  return <span class="item">{name && <span>{name}</span>}<span class={name ? "mono mute" : "mono"}>{obis}</span></span>;
}

export const DeviceLink = ({ id }: { id: string }) => <a class="mono" href={to(["devices", id])}>{id}</a>;

export function Page({ title, actions, children, fill, aside }: { title: string; actions?: ComponentChildren; children: ComponentChildren; fill?: boolean; aside?: ComponentChildren }) {
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => { document.title = title + " · Meterline"; }, [title]);
  // Whoever comes to a page by keyboard or with a screen reader starts at its name.
  useEffect(() => { head.current?.focus({ preventScroll: true }); }, []);
  return (
    <div class={fill ? "page fill" : "page"}>
      <header class="page-head"><h1 tabIndex={-1} ref={head}>{title}</h1>{aside}<div class="actions">{actions}</div></header>
      {children}
    </div>
  );
}

export function Panel({ title, actions, children, flush, cls }: { title?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren; flush?: boolean; cls?: string }) {
  const id = useId();
  return (
    <section class={`panel ${flush ? "flush" : ""} ${cls ?? ""}`} aria-labelledby={title ? id : undefined}>
      {(title || actions) && <header class="panel-head">{title && <h2 id={id}>{title}</h2>}<div class="actions">{actions}</div></header>}
      <div class="panel-body">{children}</div>
    </section>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><p class="empty-title">{title}</p>{children && <div class="empty-text">{children}</div>}</div>;
}

export const Loading = () => <div class="loading" role="status"><span class="spinner" aria-hidden="true" />{t("loading")}</div>;

/** What went wrong, and what to do about it. */
export function ProblemBox({ problem, again }: { problem: Problem | undefined; again?: () => void }) {
  if (!problem) return null;
  return (
    <div class={`problem ${problem.status === 403 ? "forbidden" : ""}`} role="alert">
      <p class="problem-title"><Icon name="warn" />{problemTitle(problem)}</p>
      {problem.message && <p>{problem.message}</p>}
      {problem.fields.length > 0 && <ul>{problem.fields.map((f) => <li><span class="mono">{f.pointer || "/"}</span> {f.detail}</li>)}</ul>}
      <p class="mute">{problemAdvice(problem)}{problem.requestID && <> {t("request")} <span class="mono">{problem.requestID}</span></>}</p>
      {again && <Button icon="refresh" onClick={again}>{t("try-again")}</Button>}
    </div>
  );
}

function problemTitle(p: Problem): string {
  if (p.lost) return t("problem.lost");
  if (p.status === -1) return t("problem.page");
  return t(({ 401: "problem.401", 403: "problem.403", 404: "problem.404", 409: "problem.409", 422: "problem.422", 429: "problem.429" } as Record<number, Key>)[p.status] ?? "problem.other", { code: p.code });
}

function problemAdvice(p: Problem): string {
  if (p.lost) return t("advice.lost");
  if (p.code === "INSECURE_SIGN_IN") return t("advice.insecure");
  if (p.status === 403) return t("advice.403", { role: session.get()?.role || t("role.none") });
  if (p.status === 429) return t("advice.429", { s: p.retryAfter || 1 });
  if (p.status === 422 || p.status === 400) return t("advice.422");
  if (p.status >= 500) return t("advice.500");
  return "";
}

/** Beside data that could not be asked for again: how old they are. */
export function Stale({ at, error }: { at: number; error: Problem | undefined }) {
  const lost = useStore(lostSince);
  const now = useNow(1000);
  if (!at || (!error && lost === null)) return null;
  return <span class="badge t-warn stale" role="status" title={error?.message}>{t("stale", { at: clock(new Date(at)), age: span(now - at) })}</span>;
}

export function Field({ label, hint, error, children, cls }: { label: string; hint?: ComponentChildren; error?: string; children: ComponentChildren; cls?: string }) {
  return (
    <label class={`field ${error ? "wrong" : ""} ${cls ?? ""}`}>
      <span class="label">{label}</span>{children}
      {hint && <span class="hint">{hint}</span>}
      {error && <span class="field-error">{error}</span>}
    </label>
  );
}

/** The complaint of a problem about one field. */
export const fieldError = (p: Problem | undefined, pointer: string) => p?.fields.filter((f) => f.pointer === pointer || f.pointer.startsWith(pointer + "/")).map((f) => f.detail).join("; ") || undefined;

/** What narrows a list; on a narrow screen it opens when it is asked for. */
export function FilterBar({ active, children }: { active: number; children: ComponentChildren }) {
  const narrow = useNarrow();
  const bar = <div class="filters" role="search" aria-label={t("filters")}>{children}</div>;
  return narrow ? <details class="filters-fold"><summary>{t("filters")}{active > 0 && ` (${active})`}</summary>{bar}</details> : bar;
}

export function Select({ value, options, onChange, all, ...rest }: { value: string; options: [value: string, text: string][]; onChange(v: string): void; all?: string ; name?: string; "aria-label"?: string; disabled?: boolean }) {
  return (
    <select {...rest} value={value} onChange={(e) => onChange(e.currentTarget.value)}>
      {all !== undefined && <option value="">{all}</option>}
      {options.map(([v, text]) => <option value={v}>{text}</option>)}
    </select>
  );
}

/** An input that tells what was typed when there is a pause, or with Enter. */
export function LazyInput({ value, onValue, ...rest }: { value: string; onValue(v: string): void ; name?: string; type?: "search" | "text"; placeholder?: string; class?: string; list?: string; "aria-label"?: string; maxLength?: number }) {
  const [typed, set] = useState(value);
  const timer = useRef(0);
  useEffect(() => { set(value); clearTimeout(timer.current); }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const tell = (v: string) => { clearTimeout(timer.current); if (v.trim() !== value) onValue(v.trim()); };
  return (
    <input {...rest} value={typed} spellcheck={false} autocomplete="off"
      onInput={(e) => { const v = e.currentTarget.value; set(v); clearTimeout(timer.current); timer.current = window.setTimeout(() => tell(v), 350); }}
      onKeyDown={(e) => { if (e.key === "Enter") tell(typed); }} onBlur={() => tell(typed)} />
  );
}

export function Dialog({ title, onClose, children, wide }: { title: string; onClose(): void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useLayoutEffect(() => {
    const d = ref.current!;
    d.showModal();
    return () => d.close();
  }, []);
  return (
    <dialog ref={ref} class={wide ? "wide" : ""} aria-labelledby={id} onCancel={(e) => { e.preventDefault(); onClose(); }}>
      <header class="panel-head"><h2 id={id}>{title}</h2><Button kind="plain" icon="close" label={t("close")} onClick={onClose} /></header>
      <div class="panel-body">{children}</div>
    </dialog>
  );
}

/** Asks before something is done that cannot be undone. */
export function Confirm({ title, text, action, doing, problem, onYes, onNo, danger }: { title: string; text: ComponentChildren; action: string; doing: boolean; problem?: Problem; onYes(): void; onNo(): void; danger?: boolean }) {
  return (
    <Dialog title={title} onClose={onNo}>
      <div>{text}</div>
      <ProblemBox problem={problem} />
      <div class="form-end"><Button onClick={onNo}>{t("cancel")}</Button><Button kind={danger ? "danger" : "primary"} busy={doing} onClick={onYes}>{action}</Button></div>
    </Dialog>
  );
}

export function Copy({ text }: { text: string }) {
  return <Button kind="plain" icon="copy" label={t("copy")} onClick={async () => { try { await navigator.clipboard.writeText(text); announce(t("copied")); } catch { announce(t("copy-failed")); } }} />;
}

/** A secret that is shown this once. */
export function Secret({ text }: { text: string }) {
  return <div class="secret"><code class="mono">{text}</code><Copy text={text} /></div>;
}

const notices = store<{ id: number; text: string }[]>([]);
let lastNotice = 0;
/** Says something for a few seconds, aloud too. */
export function announce(text: string) {
  const id = ++lastNotice;
  notices.set([...notices.get(), { id, text }]);
  setTimeout(() => notices.set(notices.get().filter((n) => n.id !== id)), 5000);
}
export function Notices() {
  const all = useStore(notices);
  return <div class="notices" role="status" aria-live="polite">{all.map((n) => <div key={n.id} class="notice">{n.text}</div>)}</div>;
}

/** Terms and what they are, in two columns. */
export function Facts({ facts }: { facts: [term: string, is: ComponentChildren][] }) {
  return <dl class="facts">{facts.map(([term, is]) => <div><dt>{term}</dt><dd>{is ?? "–"}</dd></div>)}</dl>;
}

export function Tags({ tags }: { tags: Record<string, string> }) {
  const all = Object.entries(tags);
  return all.length ? <span class="chips">{all.map(([k, v]) => <span class="chip">{k}: {v}</span>)}</span> : <span class="mute">–</span>;
}
