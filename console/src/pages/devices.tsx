export const DevicesPage = (_: { id?: string; name?: string; key?: string }) => <p />;
