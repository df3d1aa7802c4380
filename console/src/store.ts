// A value that components watch.

import { useEffect, useState } from "preact/hooks";

export type Store<T> = { get(): T; set(value: T): void; watch(f: () => void): () => void };

export function store<T>(value: T): Store<T> {
  const watchers = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(value, next)) return;
      value = next;
      for (const w of [...watchers]) w();
    },
    watch(f) {
      watchers.add(f);
      return () => { watchers.delete(f); };
    },
  };
}

export function useStore<T>(s: Store<T>): T {
  const [value, set] = useState(s.get());
  useEffect(() => {
    const look = () => set(() => s.get());
    look(); // it may have changed since it was drawn
    return s.watch(look);
  }, [s]);
  return value;
}

/** What is kept in the browser, where that is allowed. */
export function kept<T>(name: string, initial: T): Store<T> {
  let value = initial;
  try {
    const text = localStorage.getItem("meterline." + name);
    if (text !== null) value = JSON.parse(text) as T;
  } catch { /* not allowed, or not ours */ }
  const s = store(value);
  s.watch(() => {
    try { localStorage.setItem("meterline." + name, JSON.stringify(s.get())); } catch { /* not allowed */ }
  });
  return s;
}
