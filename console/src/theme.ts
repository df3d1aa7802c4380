// Light and dark: as the system says, or as somebody has chosen here.

import { kept, store } from "./store";

export type Choice = "system" | "light" | "dark";
export const choice = kept<Choice>("theme", "system");

const system = matchMedia("(prefers-color-scheme: dark)");
const look = () => (choice.get() === "system" ? (system.matches ? "dark" : "light") : (choice.get() as "light" | "dark"));

/** What it is now. */
export const theme = store<"light" | "dark">(look());

function apply() {
  document.documentElement.dataset.theme = look();
  theme.set(look());
}
choice.watch(apply);
system.addEventListener("change", apply);
apply();
