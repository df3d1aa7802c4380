// Times, durations and numbers as people read them.

import { locale, t } from "./i18n";

const pad = (n: number, width = 2) => String(n).padStart(width, "0");

/** Local time, the day too: 2026-12-01 09:14:05. */
export function when(iso: string | number | null | undefined): string {
  if (iso === null || iso === undefined || iso === "") return "–";
  const d = new Date(iso);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(d)}`;
}

export const clock = (d: Date) => `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
export const clockMS = (iso: string) => { const d = new Date(iso); return clock(d) + "." + pad(d.getMilliseconds(), 3); };

/** A length of time: 350 ms, 4.2 s, 3 min 10 s, 5 h 2 min, 12 d 4 h. */
export function span(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  ms = Math.max(0, ms);
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return two(m, "min", Math.floor(s % 60), "s");
  const h = Math.floor(m / 60);
  if (h < 48) return two(h, "h", m % 60, "min");
  return two(Math.floor(h / 24), "d", h % 24, "h");
}

const two = (a: number, unitA: string, b: number, unitB: string) => (b ? `${a} ${unitA} ${b} ${unitB}` : `${a} ${unitA}`);

export function ago(iso: string | number | null | undefined, now = Date.now()): string {
  if (iso === null || iso === undefined || iso === "") return t("never");
  const ms = now - new Date(iso).getTime();
  return ms < 5000 ? t("just-now") : t("ago", { span: span(ms) });
}

export const count = (n: number | null | undefined) => (n === null || n === undefined ? "–" : n.toLocaleString(locale()));
export const percent = (part: number, whole: number) => (whole === 0 ? "–" : `${((100 * part) / whole).toFixed(part === whole || part === 0 ? 0 : 1)} %`);

/** A time as input type=datetime-local takes it, and back. */
export function localInput(iso: string): string {
  if (!iso) return "";
  const d = new Date(iso);
  return Number.isNaN(d.getTime()) ? "" : `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}T${pad(d.getHours())}:${pad(d.getMinutes())}`;
}
export const fromLocalInput = (s: string) => (s ? new Date(s).toISOString() : "");

/** A route in one line: com1 · 000001000001. */
export const route = (hops: Record<string, unknown>[]) => hops.map((h) => String(h.bus ?? h.meter ?? Object.values(h)[0] ?? "")).filter(Boolean).join(" › ");
