// Items by name: OBIS codes (IEC 62056-61) as people in metering call them.

import { lang } from "./i18n";
import { kept } from "./store";

const names: Record<string, [en: string, zh: string]> = {
  "1-0:1.8.0": ["Active energy import, total", "正向有功总电能"],
  "1-0:1.8.1": ["Active energy import, tariff 1", "正向有功电能 费率1"],
  "1-0:1.8.2": ["Active energy import, tariff 2", "正向有功电能 费率2"],
  "1-0:1.8.3": ["Active energy import, tariff 3", "正向有功电能 费率3"],
  "1-0:1.8.4": ["Active energy import, tariff 4", "正向有功电能 费率4"],
  "1-0:2.8.0": ["Active energy export, total", "反向有功总电能"],
  "1-0:3.8.0": ["Reactive energy import, total", "正向无功总电能"],
  "1-0:4.8.0": ["Reactive energy export, total", "反向无功总电能"],
  "1-0:1.6.0": ["Maximum demand, import", "正向有功最大需量"],
  "1-0:1.7.0": ["Active power import", "正向有功功率"],
  "1-0:2.7.0": ["Active power export", "反向有功功率"],
  "1-0:3.7.0": ["Reactive power import", "正向无功功率"],
  "1-0:13.7.0": ["Power factor", "功率因数"],
  "1-0:14.7.0": ["Frequency", "频率"],
  "1-0:31.7.0": ["Current L1", "A相电流"],
  "1-0:51.7.0": ["Current L2", "B相电流"],
  "1-0:71.7.0": ["Current L3", "C相电流"],
  "1-0:32.7.0": ["Voltage L1", "A相电压"],
  "1-0:52.7.0": ["Voltage L2", "B相电压"],
  "1-0:72.7.0": ["Voltage L3", "C相电压"],
  "0-0:1.0.0": ["Clock", "时钟"],
  "0-0:96.1.0": ["Serial number", "表号"],
  "6-0:1.0.0": ["Heat energy", "热量"],
  "7-0:3.0.0": ["Gas volume", "燃气体积"],
  "8-0:1.0.0": ["Water volume", "用水量"],
};

export const knownItems = Object.keys(names);

/** The name of an item, "" when it has none here. */
export const itemName = (obis: string) => names[obis]?.[lang.get() === "zh" ? 1 : 0] ?? "";

export type ItemSet = { id: string; name: [string, string]; items: string[]; own?: boolean };

export const namedSets: ItemSet[] = [
  { id: "billing", name: ["Daily billing", "日冻结结算"], items: ["1-0:1.8.0", "1-0:1.8.1", "1-0:1.8.2", "1-0:2.8.0"] },
  { id: "totals", name: ["Energy totals", "总电能"], items: ["1-0:1.8.0", "1-0:2.8.0", "1-0:3.8.0", "1-0:4.8.0"] },
  { id: "load", name: ["Load now", "实时负荷"], items: ["1-0:1.7.0", "1-0:2.7.0", "1-0:31.7.0", "1-0:51.7.0", "1-0:71.7.0"] },
  { id: "quality", name: ["Power quality", "电能质量"], items: ["1-0:32.7.0", "1-0:52.7.0", "1-0:72.7.0", "1-0:14.7.0", "1-0:13.7.0"] },
];

/** Sets that somebody made in this browser. */
export const ownSets = kept<ItemSet[]>("item-sets", []);

/** An OBIS code A-B:C.D.E or A-B:C.D.E*F, groups of 0 to 255 without leading zeros. */
export function isItem(s: string): boolean {
  const m = /^(\d+)-(\d+):(\d+)\.(\d+)\.(\d+)(?:\*(\d+))?$/.exec(s);
  return m !== null && m.slice(1).every((g) => g === undefined || (String(Number(g)) === g && Number(g) <= 255));
}
