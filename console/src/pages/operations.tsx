export const OperationsPage = (_: { id?: string; name?: string; key?: string }) => <p />;
