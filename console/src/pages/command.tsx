export const CommandPage = (_: { id?: string; name?: string; key?: string }) => <p />;
