// What the API answers (docs/openapi.yaml), as far as the page looks at it.

export type List<T> = { items: T[]; next_cursor: string | null };

export const states = ["queued", "sent", "delivered", "accepted", "succeeded", "failed", "expired", "cancelled", "dead"] as const;
export type State = (typeof states)[number];
export const openStates: readonly State[] = ["queued", "sent", "delivered", "accepted"];

export const kinds = ["meter.read", "meter.time_sync", "meter.relay", "device.ping"] as const;
export type Kind = (typeof kinds)[number];

export type Session = { tenant: string; name: string; role: string; scopes: string[]; expires_at: string | null };

export type Reading = {
  device_id: string; item: string; value: string; unit: string; read_at: string; received_at: string; quality: string; late: boolean; command_id?: string;
};

export type Move = { at: string; state: State; attempt?: number; endpoint_id?: string; gateway?: string; reason?: string };

export type Operation = {
  command_id: string; device_id: string;
  device: { name: string; kind: string; endpoint_id: string; route: Record<string, unknown>[]; tags: Record<string, string> };
  state: State; delivery: "never_sent" | "maybe_sent" | "acked"; attempts: number; error: { code: string; message: string } | null;
  readings: Reading[]; from_stock: boolean; late_result_at: string | null; updated_at: string; changed: number; version: number; moves?: Move[];
};

export type Command = {
  id: string; parent_id: string | null; kind: Kind; mode: "realtime" | "async"; status: string; priority: number; created_at: string; expires_at: string;
  finished_at: string | null; not_before?: string; items: string[]; counts: Record<State | "total", number>; errors: Record<string, number>; version: number;
};

export type Device = {
  id: string; tenant: string; name: string; kind: string; endpoint_id: string; route: Record<string, unknown>[]; tags: Record<string, string>; groups: string[];
  enabled: boolean; last_read_at: string | null; created_at: string; updated_at: string;
  presence: { online: boolean; gateway: string; since: string | null } | null;
  credentials?: Credentials;
};
export type Credentials = { client_id: string; username: string; password: string };

export type Group = { name: string; description: string; devices: number; created_at: string };

export type DeviceEvent = { id: string; type: string; device_id: string; endpoint_id: string; at: string; received_at: string; data: Record<string, unknown> };

export type Letter = {
  id: string; source: "uplink" | "operation"; status: "open" | "replayed" | "discarded"; cause: string; detail: string; created_at: string; received_at: string;
  endpoint_id?: string; device_id?: string; command_id?: string; new_command_id?: string; parent_id?: string; attempt: number; gateway?: string; topic?: string;
  kind?: string; payload?: string; payload_text?: string; payload_bytes: number; payload_cut?: boolean; handled_at?: string; again?: number;
  decided_at?: string; decision?: { id: string; token_name: string; remote_addr: string };
};
export type Cause = { cause: string; count: number; newest: string; oldest: string };
export type BulkDecision = { id: string; status: string; letters: number; uplinks: number; operations: number; commands: string[]; skipped: number; more: boolean };

export type Token = { id: string; name: string; scopes: string[]; created_at: string; expires_at: string | null; tenant: string; token?: string };

export type AuditEntry = {
  id: string; at: string; actor: { kind: string; id: string; name: string }; action: string; object: { kind: string; id: string }; request_id: string; remote: string;
  before: Record<string, unknown> | null; after: Record<string, unknown> | null;
};

export type Minute = { at: string; readings: number; succeeded: number; failed: number; expired: number; dead: number };
export type Overview = {
  at: string;
  endpoints: { total: number; online: number | null };
  operations: { open: number; waiting: number; oldest_waiting_at: string | null };
  minutes: Minute[];
  failures: { code: string; n: number }[];
  dead_letters: { open: number };
  backlog: { entries: number; oldest_s: number; bound: number } | null;
  gateways: { id: string; address: string; alive: boolean; connections: number | null }[];
  backends: { id: string; alive: boolean; partitions: number }[];
};
