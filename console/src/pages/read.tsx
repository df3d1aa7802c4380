export const ReadPage = (_: { id?: string; name?: string; key?: string }) => <p />;
