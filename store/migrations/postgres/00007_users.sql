-- +goose Up

-- People who sign in with a password, and sign-in sessions: of users, and of those who hold an API token.
CREATE TABLE users (
    name       text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    role       text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password   text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE sessions (
    id         text COLLATE "C" PRIMARY KEY,
    hash       bytea NOT NULL UNIQUE,
    tenant     text COLLATE "C" NOT NULL,
    user_name  text COLLATE "C",
    token_id   text COLLATE "C",
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires_at);
CREATE INDEX sessions_user ON sessions (user_name) WHERE user_name IS NOT NULL;

-- +goose Down
DROP TABLE sessions, users;
