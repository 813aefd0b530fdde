-- How backends met what was asked of them.

-- Local: each look at a copy of a shard is a challenge. Of each backend the newest rows are kept.
CREATE TABLE challenge (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    backend BLOB NOT NULL CHECK (length(backend) = 16),
    object BLOB NOT NULL CHECK (length(object) = 16),
    shard_index INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    -- How many blocks were read for it, and how many of these were wrong.
    blocks INTEGER NOT NULL,
    bad_blocks INTEGER NOT NULL,
    when_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX challenge_by_backend ON challenge (backend, number);
CREATE INDEX challenge_by_object ON challenge (object, number);
CREATE INDEX challenge_failed ON challenge (backend, number) WHERE outcome <> 0;

-- Local: what all of them come to, those that are not kept too.
CREATE TABLE backend_history (
    backend BLOB NOT NULL PRIMARY KEY CHECK (length(backend) = 16),
    answered INTEGER NOT NULL,
    wrong INTEGER NOT NULL,
    missing INTEGER NOT NULL,
    silent INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    last_failed_ns INTEGER
) STRICT, WITHOUT ROWID;
CREATE TRIGGER challenge_added AFTER INSERT ON challenge BEGIN
    INSERT INTO backend_history
        SELECT new.backend, 0, 0, 0, 0, 0, new.when_ns, new.when_ns, NULL
            WHERE NOT EXISTS (SELECT 1 FROM backend_history WHERE backend = new.backend);
    UPDATE backend_history SET
        answered = answered + (new.outcome = 0),
        wrong = wrong + (new.outcome = 1),
        missing = missing + (new.outcome = 2),
        silent = silent + (new.outcome = 3),
        kept = kept + 1,
        last_ns = new.when_ns,
        last_failed_ns = iif(new.outcome = 0, last_failed_ns, new.when_ns)
    WHERE backend = new.backend;
END;
CREATE TRIGGER challenge_forgotten AFTER DELETE ON challenge BEGIN
    UPDATE backend_history SET kept = kept - 1 WHERE backend = old.backend;
END;
