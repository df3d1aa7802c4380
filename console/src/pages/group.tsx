export const GroupPage = (_: { id?: string; name?: string; key?: string }) => <p />;
