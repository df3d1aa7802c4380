export const EventsPage = (_: { id?: string; name?: string; key?: string }) => <p />;
