// A chart over time, by uPlot, in the colours of the page.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { locale } from "./i18n";
import { useStore } from "./store";
import { theme } from "./theme";

export type Series = { label: string; color: string; values: (number | null)[]; fill?: boolean; bars?: boolean };
type Props = { label: string; times: number[]; series: Series[]; height?: number; unit?: string; max?: number; min?: number; points?: boolean; range?: [from: number, to: number] };

/** Times are in seconds. Colours are custom properties of the page: --ok. */
export function Chart({ label, times, series, height = 190, unit = "", max, min, points, range }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const limits = useRef(range);
  limits.current = range;
  const look = useStore(theme);
  const shape = look + series.map((s) => s.label + s.color).join() + unit + height + max + min + locale();

  useEffect(() => {
    const el = box.current!;
    const css = getComputedStyle(document.documentElement);
    const color = (name: string) => css.getPropertyValue(name).trim();
    const axis = { stroke: color("--mute"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const number = new Intl.NumberFormat(locale(), { maximumFractionDigits: 6 });
    const p = new uPlot({
      width: el.clientWidth || 300, height,
      legend: { show: false },
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      padding: [8, 8, 0, 0],
      scales: { x: range ? { range: () => limits.current! } : {}, y: { range: (_u, lo, hi) => [min ?? Math.min(lo ?? 0, hi ?? 0) * (points ? 0.998 : 0), max ?? ((hi || 1) + (points ? 0.002 * Math.abs(hi ?? 1) : (hi || 1) * 0.08))] } },
      axes: [
        { ...axis, space: 70, size: 26, values: (_u, splits, _i, _s, incr) => splits.map((s) => { const d = new Date(s * 1000); const hm = `${String(d.getHours()).padStart(2, "0")}:${String(d.getMinutes()).padStart(2, "0")}`; return incr >= 86400 ? `${d.getMonth() + 1}-${d.getDate()}` : incr < 60 ? `${hm}:${String(d.getSeconds()).padStart(2, "0")}` : hm; }) },
        { ...axis, size: 58, space: 32, values: (_u, splits) => splits.map((v) => number.format(v) + unit) },
      ],
      series: [{}, ...series.map((s) => ({
        label: s.label, stroke: color(s.color), width: 1.5, points: { show: s.values.filter((v) => v !== null).length < (points ? 200 : 8), size: 5, fill: color(s.color) }, spanGaps: true,
        fill: s.fill || s.bars ? color(s.color) + (s.bars ? "cc" : "22") : undefined,
        paths: s.bars ? uPlot.paths.bars!({ size: [0.7, 12] }) : undefined,
      }))],
      hooks: { setCursor: [(u) => tell(u, el, series, number, unit)] },
    }, data(), el);
    plot.current = p;
    const o = new ResizeObserver(() => { if (el.clientWidth) p.setSize({ width: el.clientWidth, height }); });
    o.observe(el);
    return () => { o.disconnect(); p.destroy(); plot.current = null; };
  }, [shape]);

  const data = () => [times, ...series.map((s) => s.values)] as uPlot.AlignedData;
  useEffect(() => plot.current?.setData(data()), [times, series]);

  return (
    <figure class="chart" role="img" aria-label={label}>
      {series.length > 1 && <figcaption>{series.map((s) => <span><i class="swatch" style={{ background: `var(${s.color})` }} />{s.label}</span>)}</figcaption>}
      <div ref={box} class="chart-box"><div class="chart-tip" hidden /></div>
    </figure>
  );
}

/** Shows the values below the pointer. */
function tell(u: uPlot, el: HTMLElement, series: Series[], number: Intl.NumberFormat, unit: string) {
  const tip = el.querySelector<HTMLElement>(".chart-tip");
  if (!tip) return;
  const i = u.cursor.idx;
  tip.hidden = i === null || i === undefined || (u.cursor.left ?? -1) < 0;
  if (tip.hidden) return;
  const d = new Date(u.data[0][i!] * 1000);
  const values = series.map((s, n) => `${s.label}: ${u.data[n + 1][i!] == null ? "–" : number.format(u.data[n + 1][i!]!) + unit}`);
  tip.textContent = [d.toLocaleString(locale(), { hour: "2-digit", minute: "2-digit", day: "2-digit", month: "2-digit" }), ...values].join("\n");
  tip.style.left = `${Math.min((u.cursor.left ?? 0) + 70, el.clientWidth - tip.offsetWidth - 4)}px`;
}
