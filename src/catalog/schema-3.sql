-- Schema 3: what there is altogether, kept up to date, so that nobody has to go through all objects to say how they stand.

-- Living objects that are alike in all that says how they stand: kind, geometry, state, margins, whether they were ever
-- checked, and where their shards are, in which state. There are few such classes, however many objects.
CREATE TABLE class (
    key TEXT NOT NULL PRIMARY KEY,
    objects INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL,
    -- How many of them were never verified in full.
    unverified INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which class each living object is in.
CREATE VIEW standing AS
    SELECT o.id AS object,
        json_array(o.kind, o.data_shards, o.total_shards, o.state, o.margin, o.backend_margin, o.checked_ns IS NOT NULL,
            json((SELECT json_group_array(json_array(s.shard_index, lower(hex(s.backend)), s.state)
                ORDER BY s.shard_index, s.backend) FROM shard s WHERE s.object = o.id))) AS key,
        o.payload_bytes AS payload_bytes,
        o.verified_ns IS NULL AS unverified
    FROM object o WHERE o.dead = 0;

-- The objects that the transaction at work has changed, with the class that they were in before: none for one that did not
-- live. At its end it counts them anew. Between transactions this is empty.
CREATE TABLE changed (
    object BLOB NOT NULL PRIMARY KEY,
    key TEXT,
    payload_bytes INTEGER NOT NULL,
    unverified INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER object_counted AFTER INSERT ON object BEGIN
    INSERT INTO changed
        SELECT new.id, NULL, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM changed WHERE object = new.id);
END;
CREATE TRIGGER object_changes BEFORE UPDATE OF kind, dead, state, margin, backend_margin, checked_ns, verified_ns ON object
WHEN NOT EXISTS (SELECT 1 FROM changed WHERE object = old.id) BEGIN
    INSERT INTO changed SELECT object, key, payload_bytes, unverified FROM standing WHERE object = old.id;
    INSERT INTO changed
        SELECT old.id, NULL, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM changed WHERE object = old.id);
END;
CREATE TRIGGER object_goes BEFORE DELETE ON object
WHEN old.dead = 0 AND NOT EXISTS (SELECT 1 FROM changed WHERE object = old.id) BEGIN
    INSERT INTO changed SELECT object, key, payload_bytes, unverified FROM standing WHERE object = old.id;
END;
CREATE TRIGGER shard_comes BEFORE INSERT ON shard
WHEN NOT EXISTS (SELECT 1 FROM changed WHERE object = new.object) BEGIN
    INSERT INTO changed SELECT object, key, payload_bytes, unverified FROM standing WHERE object = new.object;
END;
CREATE TRIGGER shard_changes BEFORE UPDATE OF state ON shard
WHEN NOT EXISTS (SELECT 1 FROM changed WHERE object = old.object) BEGIN
    INSERT INTO changed SELECT object, key, payload_bytes, unverified FROM standing WHERE object = old.object;
END;
CREATE TRIGGER shard_goes BEFORE DELETE ON shard
WHEN NOT EXISTS (SELECT 1 FROM changed WHERE object = old.object) BEGIN
    INSERT INTO changed SELECT object, key, payload_bytes, unverified FROM standing WHERE object = old.object;
END;

INSERT INTO class SELECT key, count(*), sum(payload_bytes), sum(unverified) FROM standing GROUP BY key;

-- The oldest verification of each geometry, and the oldest put of what was never verified.
CREATE INDEX object_by_geometry ON object (data_shards, total_shards, verified_ns, created_ns) WHERE dead = 0;

-- Names that have a head, and complete versions that were not removed.
CREATE TABLE tally (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    files INTEGER NOT NULL,
    versions INTEGER NOT NULL
) STRICT;
INSERT INTO tally SELECT 1, count(DISTINCT iif(head = 1, name_tag, NULL)), ifnull(sum(complete = 1 AND removed = 0), 0)
    FROM version;
CREATE TRIGGER version_counted AFTER INSERT ON version WHEN new.complete = 1 AND new.removed = 0 BEGIN
    UPDATE tally SET versions = versions + 1;
END;
CREATE TRIGGER version_uncounted AFTER DELETE ON version WHEN old.complete = 1 AND old.removed = 0 BEGIN
    UPDATE tally SET versions = versions - 1;
END;
CREATE TRIGGER version_recounted AFTER UPDATE OF complete, removed ON version BEGIN
    UPDATE tally SET versions = versions + (new.complete = 1 AND new.removed = 0) - (old.complete = 1 AND old.removed = 0);
END;
CREATE TRIGGER file_counted AFTER INSERT ON version WHEN new.head = 1 BEGIN
    UPDATE tally SET files = files + 1
        WHERE NOT EXISTS (SELECT 1 FROM version WHERE name_tag = new.name_tag AND head = 1 AND id <> new.id);
END;
CREATE TRIGGER file_uncounted AFTER DELETE ON version WHEN old.head = 1 BEGIN
    UPDATE tally SET files = files - 1
        WHERE NOT EXISTS (SELECT 1 FROM version WHERE name_tag = old.name_tag AND head = 1);
END;
CREATE TRIGGER file_recounted AFTER UPDATE OF head ON version WHEN new.head <> old.head BEGIN
    UPDATE tally SET files = files + iif(new.head = 1, 1, -1)
        WHERE NOT EXISTS (SELECT 1 FROM version WHERE name_tag = new.name_tag AND head = 1 AND id <> new.id);
END;
