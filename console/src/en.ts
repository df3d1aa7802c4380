// The words of the page in English. Every key is in zh.ts too.

export const en = {
  // everywhere
  "loading": "Loading…", "close": "Close", "cancel": "Cancel", "copy": "Copy", "copied": "Copied", "copy-failed": "The browser does not allow copying", "try-again": "Try again",
  "none": "none", "never": "never", "just-now": "just now", "ago": "{span} ago", "as-of": "as of", "stale": "as of {at} · {age} old", "request": "Request", "menu": "Menu", "skip": "Skip to the content",
  "name": "Name", "password": "Password", "token": "Token", "code": "Code", "number": "Number", "kind": "Kind", "state": "State", "health": "Health", "node": "Node", "gateway": "Gateway", "backend": "Backend",
  "alive": "alive", "lost-node": "gone", "lost": "The server has not answered for {span}. What you see stays as it was; trying again.",
  "not-found": "Not found", "not-found.title": "There is no such page.",
  "rows.all": "{n} in all", "rows.some": "{n} so far, more as you scroll", "rows.broken": "What follows did not come. Try again",
  "forbidden.title": "This page needs rights that you do not have", "forbidden.text": "{name} has none of these scopes: {scopes}.", "forbidden.advice": "Ask an administrator for a user with a higher role, or sign in with a token that has one of them.",

  // problems, and what to do
  "problem.lost": "The server does not answer", "problem.page": "Something is wrong with this page", "problem.401": "Not signed in", "problem.403": "You may not do this", "problem.404": "There is no such thing",
  "problem.409": "This cannot be done now ({code})", "problem.422": "This was not accepted", "problem.429": "Too many requests", "problem.other": "This did not work ({code})",
  "advice.lost": "Nothing is lost. It is asked again on its own when the server is back.", "advice.insecure": "Give the backend a certificate, or open this page on the machine that it runs on.",
  "advice.403": "Your role is {role}. Ask an administrator for more rights.", "advice.429": "Wait {s} s and try again.", "advice.422": "Mend what is named, and try again.", "advice.500": "Try again. If it stays so, the number of the request finds it in the server's log.",

  // sign-in
  "sign-in": "Sign in", "sign-out": "Sign out", "sign-in.title": "Operations centre", "sign-in.user": "User", "sign-in.token": "API token", "sign-in.ended": "Your session is over. Sign in again; you come back to where you were.",
  "sign-in.token-hint": "Begins with mtl_. It is sent once and not kept in the browser.", "sign-in.user-hint": "No user yet? An administrator makes one with: backend user create",
  "sign-in.insecure": "Signing in here is not safe, and is refused", "sign-in.insecure-why": "This page came over plain HTTP from another machine: a password or a token would cross the network in the clear. Serve it over HTTPS:",
  "role.viewer": "viewer", "role.operator": "operator", "role.admin": "administrator", "role.none": "no role",
  "theme.dark": "Dark", "theme.light": "Light",

  // navigation
  "nav": "Pages", "nav.overview": "Overview", "nav.read": "Read now", "nav.operations": "Operations", "nav.devices": "Devices", "nav.groups": "Groups", "nav.events": "Events and alarms", "nav.letters": "Dead letters", "nav.tokens": "Tokens", "nav.audit": "Audit",

  // states and codes
  "state.queued": "queued", "state.sent": "sent", "state.delivered": "delivered", "state.accepted": "accepted", "state.succeeded": "succeeded", "state.failed": "failed", "state.expired": "expired", "state.cancelled": "cancelled", "state.dead": "dead", "state.running": "running", "state.partial": "partial",
  "code.BUS_TIMEOUT": "the meter did not answer on its bus", "code.BUS_ERROR": "the bus did not work", "code.CRC_ERROR": "the answer was damaged", "code.NO_SUCH_METER": "the IPC does not know the meter", "code.NO_SUCH_ITEM": "the meter does not have the item", "code.METER_REFUSED": "the meter refused", "code.BUSY": "the device was busy", "code.EXPIRED_AT_ENDPOINT": "came too late to be carried out", "code.UNSUPPORTED_KIND": "the device cannot do this", "code.INTERNAL": "a fault in the device", "code.OTHER": "all other codes",

  // overview
  "overview.endpoints": "Endpoints online", "overview.offline": "{n} offline", "overview.presence-unknown": "not known for the moment", "overview.readings": "Readings", "overview.readings-per-minute": "Readings per minute", "overview.readings-chart": "Readings per minute over the last hour, {n} in all",
  "overview.last-hour": "{n} in the last hour", "overview.success-rate": "Success rate", "overview.rate-chart": "Success rate over the last hour, {rate} on the whole", "overview.of-ended": "of {n} ended in the last hour", "overview.ended-per-minute": "Operations ended per minute", "overview.not-succeeded": "failed, expired or dead",
  "overview.oldest": "Oldest waiting", "overview.open": "{open} open, {waiting} waiting", "overview.backlog": "Backlog", "overview.backlog-note": "{share} of its bound, oldest {age}", "overview.no-backlog": "no such log here", "overview.letters": "Dead letters", "overview.letters-note": "waiting for a decision", "overview.no-letters": "nothing to decide",
  "overview.failures": "Failures by code, last hour", "overview.no-failures": "No failure in the last hour", "overview.nodes": "Gateways and backends", "overview.load": "Load", "overview.connections": "{n} connections", "overview.partitions": "{n} partitions", "overview.no-nodes": "No gateway has announced itself",
} as const;
