export const GroupsPage = (_: { id?: string; name?: string; key?: string }) => <p />;
