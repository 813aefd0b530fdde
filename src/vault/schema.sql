CREATE TABLE vault (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    form BLOB NOT NULL,
    newest_ms INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) STRICT;
CREATE TABLE entry (
    key BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    expires INTEGER,
    digest INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX expiring ON entry (expires) WHERE expires IS NOT NULL;
