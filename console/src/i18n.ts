// Two languages. zh has a text for every key of en, or it does not compile.

import { en } from "./en";
import { kept } from "./store";
import { zh } from "./zh";

export type Key = keyof typeof en;
export type Lang = "en" | "zh";

export const lang = kept<Lang>("lang", navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** The text of a key, with {name} replaced by values. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const text: string = (lang.get() === "zh" ? zh : en)[key];
  return text.replace(/\{(\w+)\}/g, (all, name: string) => (name in values ? String(values[name]) : all));
}

/** The text of a key that is put together, or what it stands for where there is none: a state, a code. */
export function word(prefix: string, name: string): string {
  const key = `${prefix}.${name}`;
  return key in en ? t(key as Key) : name;
}

export const locale = () => (lang.get() === "zh" ? "zh-CN" : "en-GB");
