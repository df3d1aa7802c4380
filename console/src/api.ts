// The client of the API: problems as the API tells them, and whether the API answers at all.

import { store } from "./store";

export type FieldError = { pointer: string; detail: string };

/** What the API refused, or that it did not answer (status 0). */
export class Problem extends Error {
  constructor(
    readonly status: number, readonly code: string, detail: string,
    readonly fields: FieldError[] = [], readonly requestID = "", readonly retryAfter = 0,
  ) { super(detail); }
  /** Nobody knows: what was asked for may come back, and old data are shown meanwhile. */
  get lost() { return this.status === 0 || this.status >= 502; }
}

export type Query = Record<string, string | number | boolean | undefined | null | string[]>;

/** A query string with its question mark, without what is empty. */
export function query(q: Query): string {
  const p = new URLSearchParams();
  for (const [name, value] of Object.entries(q)) {
    for (const v of Array.isArray(value) ? value : [value]) if (v !== undefined && v !== null && v !== "") p.append(name, String(v));
  }
  const s = p.toString();
  return s && "?" + s;
}

/** Since when the API has not answered; null while it does. */
export const lostSince = store<number | null>(null);
/** Rises when the API is back, and when somebody signs in: then everything on the page is asked for again. */
export const revived = store(0);
/** Is called when the session is over. */
export const sessionOver = store(0);

export type Ask = { query?: Query; body?: unknown; raw?: Blob | string; type?: string; accept?: string; headers?: Record<string, string>; signal?: AbortSignal };

/** One request. It throws a Problem, or what fetch throws when the signal ended it. */
export async function request(method: string, path: string, ask: Ask = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: ask.accept ?? "application/json", ...ask.headers };
  if (ask.body !== undefined) headers["Content-Type"] = "application/json";
  if (ask.raw !== undefined) headers["Content-Type"] = ask.type ?? "text/csv";
  let answer: Response;
  try {
    answer = await fetch(path + query(ask.query ?? {}), {
      method, headers, body: ask.body !== undefined ? JSON.stringify(ask.body) : ask.raw, signal: ask.signal, credentials: "same-origin", cache: "no-store",
    });
  } catch (e) {
    if (ask.signal?.aborted) throw e;
    lost();
    throw new Problem(0, "UNREACHABLE", "");
  }
  if (answer.ok) {
    found();
    return answer;
  }
  const p = await problemOf(answer);
  if (p.lost) lost(); else found();
  if (p.status === 401 && !path.startsWith("/v1/session")) sessionOver.set(sessionOver.get() + 1);
  throw p;
}

export async function call<T>(method: string, path: string, ask: Ask = {}): Promise<T> {
  const answer = await request(method, path, ask);
  if (answer.status === 204) return undefined as T;
  try {
    return (await answer.json()) as T;
  } catch (e) {
    if (ask.signal?.aborted) throw e;
    lost(); // it broke off in the middle
    throw new Problem(0, "UNREACHABLE", "");
  }
}

export const get = <T>(path: string, q: Query = {}, signal?: AbortSignal) => call<T>("GET", path, { query: q, signal });

async function problemOf(answer: Response): Promise<Problem> {
  const retry = Number(answer.headers.get("Retry-After")) || 0;
  try {
    const p = await answer.json();
    return new Problem(answer.status, String(p.code ?? answer.status), String(p.detail ?? p.title ?? ""), Array.isArray(p.errors) ? p.errors : [], String(p.request_id ?? ""), retry);
  } catch {
    return new Problem(answer.status, String(answer.status), answer.statusText, [], "", retry);
  }
}

function lost() {
  if (lostSince.get() !== null) return;
  lostSince.set(Date.now());
  const probe = async () => {
    try {
      const answer = await fetch("/v1/session", { credentials: "same-origin", cache: "no-store" });
      if (answer.status < 502) return found();
    } catch { /* still away */ }
    if (lostSince.get() !== null) setTimeout(probe, 2000);
  };
  setTimeout(probe, 1000);
}

function found() {
  if (lostSince.get() === null) return;
  lostSince.set(null);
  revived.set(revived.get() + 1);
}

/** A key for a call that must not be done twice. */
const idempotent = () => ({ "Idempotency-Key": "console-" + Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("") });

// Calls of which nobody knows whether they were done, since no answer came.
const unsure = new Map<string, Record<string, string>>();

/** A POST that is done once: when no answer came, the same one again has the same key, and gets what the first one made. */
export async function once<T>(path: string, body?: unknown): Promise<T> {
  const what = path + JSON.stringify(body ?? null);
  const headers = unsure.get(what) ?? idempotent();
  unsure.set(what, headers);
  try {
    const made = await call<T>("POST", path, { body, headers });
    unsure.delete(what);
    return made;
  } catch (e) {
    if (!(e instanceof Problem) || !e.lost) unsure.delete(what);
    throw e;
  }
}
