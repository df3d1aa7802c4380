export const AuditPage = (_: { id?: string; name?: string; key?: string }) => <p />;
