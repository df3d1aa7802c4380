-- +goose Up

-- People who sign in with a password, and sign-in sessions: of users, and of those who hold an API token.
CREATE TABLE users (
    name       TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password   TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    tenant     TEXT NOT NULL,
    user_name  TEXT,
    token_id   TEXT,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires_at);
CREATE INDEX sessions_user ON sessions (user_name) WHERE user_name IS NOT NULL;

-- +goose Down
DROP TABLE sessions;
DROP TABLE users;
