// A table of which only what is seen is drawn: 100 000 rows scroll like a hundred. Its height is that of the rows that are there, and
// more are asked for well before the end is seen, so a row is never blank.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Pages } from "./data";
import { count } from "./format";
import { t } from "./i18n";
import { Loading, ProblemBox, Stale, useNarrow } from "./ui";

export type Column<T> = {
  id: string; title: string;
  width: string; // as in grid-template-columns
  wide?: boolean; // left out on narrow screens
  right?: boolean;
  cell(row: T): ComponentChildren;
};

type Props<T> = {
  label: string; pages: Pages<T>; columns: Column<T>[];
  rowKey(row: T): string;
  href?(row: T): string; // where a click anywhere in the row leads
  selected?: string; // the key of a row
  empty: ComponentChildren;
  ahead?: number; // how many rows to have beyond what is seen
};

export function Rows<T>({ label, pages, columns, rowKey, href, selected, empty, ahead = 1500 }: Props<T>) {
  const narrow = useNarrow();
  const height = narrow ? 44 : 32;
  const scroller = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const shown = columns.filter((c) => !narrow || !c.wide);
  const template = shown.map((c) => c.width).join(" ");

  useLayoutEffect(() => {
    const s = scroller.current!;
    const look = () => setView({ top: s.scrollTop, height: s.clientHeight });
    const o = new ResizeObserver(look);
    o.observe(s);
    s.addEventListener("scroll", look, { passive: true });
    return () => { o.disconnect(); s.removeEventListener("scroll", look); };
  }, []);

  const perView = Math.ceil(view.height / height);
  const first = Math.max(0, Math.floor(view.top / height) - perView);
  const last = Math.min(pages.items.length, first + 3 * perView + 2);
  useEffect(() => { if (pages.items.length - last < ahead) pages.more(); });

  const onKeyDown = (e: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: perView - 1, PageUp: 1 - perView }[e.key];
    const row = (e.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (!step || !row || (e.target as HTMLElement).matches("input, select")) return;
    e.preventDefault();
    const index = Math.min(Math.max(0, Number(row.dataset.index) + step), pages.items.length - 1);
    const s = scroller.current!;
    const top = index * height, head = height;
    if (top < s.scrollTop) s.scrollTop = top;
    else if (top + height > s.scrollTop + s.clientHeight - head) s.scrollTop = top + height - s.clientHeight + head;
    requestAnimationFrame(() => s.querySelector<HTMLElement>(`[data-index="${index}"] a, [data-index="${index}"] button`)?.focus({ preventScroll: true }));
  };
  const onClick = (e: MouseEvent, row: T) => {
    if (!href || e.defaultPrevented || (e.target as HTMLElement).closest("a, button, input, label") || getSelection()?.type === "Range") return;
    location.hash = href(row);
  };

  return (
    <div class="rows-frame">
      <div class="rows" ref={scroller} role="table" aria-label={label} aria-rowcount={pages.done ? pages.items.length + 1 : -1} aria-busy={pages.loading} onKeyDown={onKeyDown} tabIndex={-1}>
        <div class="row head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template, height: `${height}px` }}>
          {shown.map((c) => <div role="columnheader" class={c.right ? "right" : ""}>{c.title}</div>)}
        </div>
        <div class="rows-space" role="rowgroup" style={{ height: `${pages.items.length * height}px` }}>
          {pages.items.slice(first, last).map((row, i) => {
            const key = rowKey(row);
            return (
              <div key={key} data-index={first + i} role="row" aria-rowindex={first + i + 2} aria-current={key === selected ? "true" : undefined}
                class={`row ${href ? "opens" : ""} ${key === selected ? "chosen" : ""}`}
                style={{ gridTemplateColumns: template, height: `${height}px`, transform: `translateY(${(first + i) * height}px)` }} onClick={(e) => onClick(e, row)}>
                {shown.map((c) => <div role="cell" class={c.right ? "right" : ""}>{c.cell(row)}</div>)}
              </div>
            );
          })}
        </div>
        {pages.items.length === 0 && (pages.error ? <ProblemBox problem={pages.error} again={pages.again} /> : pages.loading || !pages.done ? <Loading /> : empty)}
      </div>
      <footer class="rows-foot">
        <span aria-live="polite">{pages.items.length > 0 && (pages.done ? t("rows.all", { n: count(pages.items.length) }) : t("rows.some", { n: count(pages.items.length) }))}</span>
        {pages.items.length > 0 && pages.error && <button type="button" class="link" onClick={pages.again}>{t("rows.broken")}</button>}
        <Stale at={pages.at} error={pages.error} />
      </footer>
    </div>
  );
}

/** Pages of what is there already. */
export const pagesOf = <T,>(items: T[], more: Partial<Pages<T>> = {}): Pages<T> => ({ items, error: undefined, loading: false, done: true, at: 0, more() {}, again() {}, patch() {}, ...more });
