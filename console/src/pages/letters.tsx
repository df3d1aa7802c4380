export const LettersPage = (_: { id?: string; name?: string; key?: string }) => <p />;
