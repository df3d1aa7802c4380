// Where one is: the part of the address behind #, as a path and its parameters.

import { store, useStore } from "./store";

export type Params = Record<string, string>;
export type Route = { path: string[]; params: Params };

function parse(hash: string): Route {
  const [path, search] = hash.replace(/^#\/?/, "").split("?", 2);
  const decode = (s: string) => { try { return decodeURIComponent(s); } catch { return s; } };
  return { path: path.split("/").filter(Boolean).map(decode), params: Object.fromEntries(new URLSearchParams(search ?? "")) };
}

const current = store(location.hash);
addEventListener("hashchange", () => current.set(location.hash));

export const useRoute = (): Route => parse(useStore(current));

/** The address of a page, for links: empty parameters are left out. */
export function to(path: string | string[], params: Params = {}): string {
  const p = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== ""));
  const where = (Array.isArray(path) ? path : [path]).map(encodeURIComponent).join("/");
  return "#/" + where + (p.size ? "?" + p : "");
}

export const go = (path: string | string[], params: Params = {}) => { location.hash = to(path, params); };

/** Changes parameters of this page, without a step in the history. */
export function setParams(change: Params) {
  const r = parse(location.hash);
  history.replaceState(null, "", to(r.path, { ...r.params, ...change }));
  current.set(location.hash);
}
