// One operation: what became of it, hop by hop.

import { useState } from "preact/hooks";
import { call, once } from "./api";
import { useDoing } from "./data";
import { clockMS, route, span } from "./format";
import { t, word, type Key } from "./i18n";
import { go, to } from "./route";
import { can } from "./session";
import { openStates, type Command, type Move, type Operation } from "./types";
import { announce, Button, Code, Confirm, Facts, Item, ProblemBox, StateBadge, Time, useNow } from "./ui";

const isOpen = (o: Operation) => openStates.includes(o.state);

export function OperationDetail({ o, changed }: { o: Operation; changed(): void }) {
  return (
    <div class="stack">
      <div class="actions"><StateBadge state={o.state} />{o.from_stock && <span class="badge">{t("from-stock")}</span>}{o.late_result_at && <span class="badge t-warn">{t("late-result")}</span>}</div>
      {o.error && <p class="note warn"><Code>{o.error.code}</Code> {word("code", o.error.code) !== o.error.code && word("code", o.error.code)}{o.error.message && <><br />{o.error.message}</>}</p>}
      <p class={o.delivery === "never_sent" ? "note" : o.delivery === "maybe_sent" ? "note warn" : "note ok"}><Code>{o.delivery}</Code> {t(("delivery-means." + o.delivery) as Key)}</p>
      <section aria-labelledby="trace"><h3 id="trace">{t("trace")}</h3><Trace moves={o.moves ?? []} open={isOpen(o)} /></section>
      {o.readings.length > 0 && (
        <section aria-labelledby="readings"><h3 id="readings">{t("readings")}</h3>
          <table class="table"><tbody>{o.readings.map((r) => <tr><th scope="row"><Item obis={r.item} /></th><td class="right num"><strong>{r.value}</strong> {r.unit}</td></tr>)}</tbody></table>
        </section>
      )}
      <Facts facts={[
        [t("command"), <a class="mono" href={to(["commands", o.command_id])}>{o.command_id}</a>], [t("device"), <a class="mono" href={to(["devices", o.device_id])}>{o.device_id}</a>],
        [t("endpoint"), <Code>{o.device.endpoint_id}</Code>], [t("route"), route(o.device.route) || "–"], [t("attempts"), o.attempts], [t("late-result"), <Time at={o.late_result_at} />],
      ]} />
      {can("commands:write") && <Steps o={o} changed={changed} />}
    </div>
  );
}

/** The moves as a timeline, with the time that passed between them. */
export function Trace({ moves, open }: { moves: Move[]; open: boolean }) {
  const now = useNow(open ? 1000 : 3_600_000);
  if (moves.length === 0) return <p class="mute small">{t("trace.none")}</p>;
  const gaps = moves.slice(1).map((m, i) => Date.parse(m.at) - Date.parse(moves[i].at));
  const longest = Math.max(1, ...gaps);
  return (
    <ol class="trace">
      {moves.map((m, i) => (
        <>
          {i > 0 && <li class="gap"><i class="gap-bar" style={{ width: `${Math.max(2, (90 * gaps[i - 1]) / longest)}px` }} aria-hidden="true" /><span>{span(gaps[i - 1])}</span></li>}
          <li class={`hop ${i === moves.length - 1 && !open ? "end e-" + m.state : ""}`} data-state={m.state}>
            <StateBadge state={m.state} /><time class="mono" dateTime={m.at} title={m.at}>{clockMS(m.at)}</time>
            {(m.attempt || m.gateway || m.endpoint_id || m.reason) && (
              <span class="detail">{[m.attempt && t("trace.attempt", { n: m.attempt }), m.gateway && t("trace.gateway", { id: m.gateway }), m.endpoint_id && t("trace.endpoint", { id: m.endpoint_id }), m.reason].filter(Boolean).join(" · ")}</span>
            )}
          </li>
        </>
      ))}
      {open && <li class="gap"><span class="spinner" aria-hidden="true" /><span>{t("trace.since", { span: span(now - Date.parse(moves.at(-1)!.at)) })}</span></li>}
    </ol>
  );
}

/** Ends the command, or asks this device once more. */
function Steps({ o, changed }: { o: Operation; changed(): void }) {
  const [sure, setSure] = useState(false);
  const { doing, problem, run } = useDoing();
  const cancel = () => run(async () => {
    await call("POST", `/v1/commands/${o.command_id}/cancel`);
    setSure(false);
    announce(t("cancelled"));
    changed();
  });
  const again = () => run(async () => {
    const was = await call<Command & { params?: unknown; max_attempts?: number }>("GET", `/v1/commands/${o.command_id}`);
    const made = await once<Command>("/v1/commands", {
      kind: was.kind, mode: was.mode, priority: was.priority, items: was.items.length ? was.items : undefined, params: was.params ?? undefined, targets: { device_ids: [o.device_id] },
    });
    go(["commands", made.id]);
  });
  return (
    <>
      {!sure && <ProblemBox problem={problem} />}
      <div class="form-end">
        {isOpen(o) ? <Button kind="danger" onClick={() => setSure(true)}>{t("cancel-command")}</Button> : <Button icon="refresh" busy={doing} onClick={again}>{t("ask-again")}</Button>}
      </div>
      {sure && <Confirm danger title={t("cancel-command")} text={t("cancel-command-text")} action={t("cancel-command")} doing={doing} problem={problem} onYes={cancel} onNo={() => setSure(false)} />}
    </>
  );
}
