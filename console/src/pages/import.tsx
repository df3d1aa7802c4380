export const ImportPage = (_: { id?: string; name?: string; key?: string }) => <p />;
