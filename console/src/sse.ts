// The event stream of a command. EventSource gives up for good on an error of HTTP and cannot say where it was, so the stream is
// read by hand: a connection that breaks is made again, and goes on after the last event.

import { Problem, request } from "./api";
import type { Command, Operation } from "./types";

export type Watcher = {
  operation(o: Operation): void;
  end(c: Command): void;
  /** True while events come, false while the stream is broken and is being made again. */
  live(yes: boolean): void;
  refused(p: Problem): void;
};

export async function watchCommand(id: string, w: Watcher, signal: AbortSignal): Promise<void> {
  let last = "";
  for (let failures = 0; !signal.aborted;) {
    try {
      const answer = await request("GET", `/v1/commands/${encodeURIComponent(id)}/events`, {
        accept: "text/event-stream", headers: last ? { "Last-Event-ID": last } : {}, signal,
      });
      w.live(true);
      failures = 0;
      for await (const e of events(answer, signal)) {
        if (e.id) last = e.id;
        if (e.name === "end") return w.end(JSON.parse(e.data) as Command);
        if (e.data) w.operation(JSON.parse(e.data) as Operation);
      }
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof Problem && !e.lost && e.status !== 429) return w.refused(e);
    }
    if (signal.aborted) return;
    w.live(false);
    await pause(Math.min(1000 * 2 ** failures++, 10_000), signal);
  }
}

type Event = { id: string; name: string; data: string };

async function* events(answer: Response, signal: AbortSignal): AsyncGenerator<Event> {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), 40_000, signal); // a comment comes every 15 s
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const e = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (e) yield e;
      }
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function parse(block: string): Event | null {
  const e: Event = { id: "", name: "", data: "" };
  let any = false;
  for (const line of block.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/s.exec(line) ?? [];
    if (field === "id") e.id = value;
    else if (field === "event") e.name = value;
    else if (field === "data") { e.data += (any ? "\n" : "") + value; any = true; }
  }
  return any ? e : null;
}

function within<T>(p: Promise<T>, ms: number, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("silence")), ms);
    const stop = () => reject(new Error("aborted"));
    signal.addEventListener("abort", stop, { once: true });
    p.then(resolve, reject).finally(() => { clearTimeout(timer); signal.removeEventListener("abort", stop); });
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
