// Who has signed in, and what they may do.

import { kept, store } from "./store";
import type { Session } from "./types";

export const session = store<Session | null>(null);

/** Whether somebody has signed in with this browser, and not out again: then there may be a session. */
export const signedIn = kept("signed-in", false);
session.watch(() => signedIn.set(session.get() !== null));

/** Whether one of the scopes is there. What is not is not offered; the API refuses it anyway. */
export const can = (...any: string[]) => { const s = session.get()?.scopes ?? []; return s.includes("admin") || any.some((x) => s.includes(x)); };
