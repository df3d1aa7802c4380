// How components ask the API: once, again and again, or page by page. What was there stays when the API does not answer.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, Problem, revived, type Query } from "./api";
import { useStore } from "./store";
import type { List } from "./types";

export type Answer<T> = {
  data: T | undefined; error: Problem | undefined; loading: boolean;
  at: number; // when data came, in ms; 0: never
  again(): void;
};

/** Asks when key changes (null: not at all), every so many ms while the page is seen, and when the API is back. */
export function useAsk<T>(key: string | null, ask: (signal: AbortSignal) => Promise<T>, every = 0): Answer<T> {
  const [s, set] = useState<{ key: string | null; data?: T; error?: Problem; loading: boolean; at: number }>({ key, loading: key !== null, at: 0 });
  const [turn, setTurn] = useState(0);
  const back = useStore(revived);
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (key === null) return;
    const stop = new AbortController();
    let timer = 0;
    set((o) => (o.key === key ? { ...o, loading: true } : { key, loading: true, at: 0 }));
    const once = async () => {
      try {
        const data = await latest.current(stop.signal);
        if (!stop.signal.aborted) set({ key, data, loading: false, at: Date.now() });
      } catch (e) {
        if (stop.signal.aborted) return;
        const error = e instanceof Problem ? e : new Problem(-1, "PAGE", String(e));
        set((o) => ({ ...o, key, error, loading: false }));
      }
      if (every > 0 && !stop.signal.aborted) timer = window.setTimeout(next, every);
    };
    const next = () => { document.hidden ? (timer = window.setTimeout(next, 1000)) : void once(); };
    void once();
    return () => { stop.abort(); clearTimeout(timer); };
  }, [key, every, turn, back]);
  const again = useCallback(() => setTurn((n) => n + 1), []);
  const mine = s.key === key;
  return { data: mine ? s.data : undefined, error: mine ? s.error : undefined, loading: mine ? s.loading : key !== null, at: mine ? s.at : 0, again };
}

export type Pages<T> = {
  items: T[]; error: Problem | undefined; loading: boolean; done: boolean; at: number;
  more(): void; again(): void; patch(change: (items: T[]) => T[]): void;
};

/** A list with cursors: the first page of so many, and one more, of next, at each call of more. */
export function usePages<T>(path: string | null, q: Query, limit = 200, next = 500): Pages<T> {
  const key = path === null ? null : path + "?" + JSON.stringify(q);
  type S = { key: string | null; items: T[]; cursor: string | null; error?: Problem; loading: boolean; at: number; fresh: boolean };
  const empty = (): S => ({ key, items: [], cursor: "", loading: key !== null, at: 0, fresh: true });
  const [s, set] = useState<S>(empty);
  const [turn, setTurn] = useState(0);
  const back = useStore(revived);
  const state = useRef(s);
  state.current = s;
  const stop = useRef(new AbortController());
  const busy = useRef(false);

  const fetchPage = useCallback(async (cursor: string) => {
    if (path === null || busy.current) return;
    busy.current = true;
    const mine = stop.current;
    try {
      const page = await get<List<T>>(path, { ...q, limit: cursor === "" ? limit : next, cursor }, mine.signal);
      if (mine.signal.aborted) return;
      busy.current = false;
      set((o) => ({ key, items: cursor === "" ? page.items : o.items.concat(page.items), cursor: page.next_cursor, loading: false, at: Date.now(), fresh: false }));
      // Pages of some filters are empty and have a next (docs/http.md): go on until there is something, or an end.
      if (page.items.length === 0 && page.next_cursor !== null) void fetchPage(page.next_cursor);
    } catch (e) {
      if (mine.signal.aborted) return;
      busy.current = false;
      set((o) => ({ ...o, key, error: e instanceof Problem ? e : new Problem(-1, "PAGE", String(e)), loading: false }));
    }
  }, [key, limit]);

  useEffect(() => {
    stop.current = new AbortController();
    busy.current = false;
    set((o) => (o.key === key ? { ...o, loading: true, error: undefined } : empty()));
    void fetchPage("");
    return () => stop.current.abort();
  }, [key, turn, back, fetchPage]);

  const more = useCallback(() => {
    const o = state.current;
    if (busy.current || o.key !== key || o.cursor === null || o.cursor === "" || o.error) return;
    void fetchPage(o.cursor);
  }, [fetchPage, key]);
  const again = useCallback(() => setTurn((n) => n + 1), []);
  const patch = useCallback((change: (items: T[]) => T[]) => set((o) => ({ ...o, items: change(o.items) })), []);
  const mine = s.key === key;
  return {
    items: mine ? s.items : [], error: mine ? s.error : undefined, loading: mine ? s.loading : key !== null,
    done: mine && s.cursor === null, at: mine ? s.at : 0, more, again, patch,
  };
}

/** A promise of somebody's doing: whether it runs, and what was wrong. */
export function useDoing() {
  const [doing, setDoing] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const alive = useRef(true);
  useEffect(() => () => { alive.current = false; }, []);
  const run = useCallback(async (what: () => Promise<void>) => {
    setDoing(true);
    setProblem(undefined);
    try {
      await what();
    } catch (e) {
      if (alive.current) setProblem(e instanceof Problem ? e : new Problem(-1, "PAGE", String(e)));
    } finally {
      if (alive.current) setDoing(false);
    }
  }, []);
  return { doing, problem, run, setProblem };
}
