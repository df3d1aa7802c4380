export const TokensPage = (_: { id?: string; name?: string; key?: string }) => <p />;
