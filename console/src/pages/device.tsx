export const DevicePage = (_: { id?: string; name?: string; key?: string }) => <p />;
