-- The catalog, schema 1. Identifiers are blobs, times nanoseconds since 1970, states the numbers of column.rs.
-- What is called sealed is a salt of 16 bytes, what it hides, and a tag of 16 bytes; see sealed.rs.

-- Whose catalog this is.
CREATE TABLE store (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id BLOB NOT NULL CHECK (length(id) = 32),
    -- Tells the key that it is sealed with from others.
    key_check BLOB NOT NULL CHECK (length(key_check) = 32)
) STRICT;

-- Content: what the backends hold. Replaced as a whole when the catalog is rebuilt.

CREATE TABLE object (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind INTEGER NOT NULL,
    data_shards INTEGER NOT NULL,
    total_shards INTEGER NOT NULL,
    block_bytes INTEGER NOT NULL,
    stripe_count INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL,
    seal INTEGER NOT NULL,
    root BLOB NOT NULL CHECK (length(root) = 32),
    -- 1 once a removal names it, or once it is a removal of which everything is gone.
    dead INTEGER NOT NULL CHECK (dead IN (0, 1)),
    state INTEGER NOT NULL,
    margin INTEGER,
    backend_margin INTEGER,
    checked_ns INTEGER,
    verified_ns INTEGER,
    created_ns INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX object_by_age ON object (verified_ns, id) WHERE dead = 0;
CREATE INDEX object_unwell ON object (id) WHERE dead = 0 AND state <> 0;
CREATE INDEX object_removal ON object (id) WHERE dead = 0 AND kind = 1;
CREATE INDEX object_dead ON object (id) WHERE dead = 1;

-- Apart from object, so that reading many objects does not read many manifests.
CREATE TABLE manifest (
    object BLOB NOT NULL PRIMARY KEY REFERENCES object (id) ON DELETE CASCADE,
    public BLOB NOT NULL,
    signature BLOB NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE shard (
    object BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    shard_index INTEGER NOT NULL,
    backend BLOB NOT NULL CHECK (length(backend) = 16),
    bytes INTEGER NOT NULL,
    state INTEGER NOT NULL,
    bad_blocks INTEGER NOT NULL,
    verified_ns INTEGER,
    PRIMARY KEY (object, shard_index, backend)
) STRICT, WITHOUT ROWID;
CREATE INDEX shard_by_backend ON shard (backend, object, shard_index);

-- The folders of all names, by keyed tags; the empty one, in which all others are, has no row.
CREATE TABLE folder (
    tag BLOB NOT NULL PRIMARY KEY CHECK (length(tag) = 16),
    parent BLOB NOT NULL CHECK (length(parent) = 16)
) STRICT, WITHOUT ROWID;
CREATE INDEX folder_by_parent ON folder (parent);

CREATE TABLE version (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name_tag BLOB NOT NULL CHECK (length(name_tag) = 16),
    folder BLOB NOT NULL CHECK (length(folder) = 16),
    sealed_name BLOB NOT NULL,
    -- Known with the last piece; the generation also from a removal.
    generation INTEGER,
    last_ordinal INTEGER,
    -- Length, hash, time and mode.
    sealed_whole BLOB,
    -- When the file itself last changed in any way, on the machine that put it; known to this catalog alone.
    sealed_ctime BLOB,
    complete INTEGER NOT NULL CHECK (complete IN (0, 1)),
    removed INTEGER NOT NULL CHECK (removed IN (0, 1)),
    -- 1 when it is complete, not removed, and no other such version of the name descends from it.
    head INTEGER NOT NULL CHECK (head IN (0, 1)),
    -- 1 once a piece of it was committed here.
    seen INTEGER NOT NULL CHECK (seen IN (0, 1))
) STRICT, WITHOUT ROWID;
-- What writers gave ids to, which begin with ff, comes after what the owner did.
CREATE INDEX version_by_name ON version (name_tag, id < x'ff' DESC, generation DESC, id DESC);
CREATE INDEX version_head ON version (name_tag, id < x'ff' DESC, generation DESC, id DESC) WHERE head = 1;
CREATE INDEX version_by_folder ON version (folder, head);
CREATE INDEX version_unfinished ON version (name_tag) WHERE complete = 0 AND removed = 0;

CREATE TABLE parent (
    version BLOB NOT NULL REFERENCES version (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    parent BLOB NOT NULL CHECK (length(parent) = 16),
    PRIMARY KEY (version, position)
) STRICT, WITHOUT ROWID;

-- A piece may be in two objects: while one is being packed anew.
CREATE TABLE piece (
    version BLOB NOT NULL REFERENCES version (id),
    ordinal INTEGER NOT NULL,
    object BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    -- Offset in the payload, and length.
    sealed_extent BLOB NOT NULL,
    -- The hash of the piece's own bytes.
    sealed_hash BLOB,
    PRIMARY KEY (version, ordinal, object)
) STRICT, WITHOUT ROWID;
CREATE INDEX piece_by_object ON piece (object, version, ordinal);

CREATE TABLE pending_delete (
    object BLOB NOT NULL CHECK (length(object) = 16),
    shard_index INTEGER NOT NULL,
    backend BLOB NOT NULL CHECK (length(backend) = 16),
    PRIMARY KEY (object, shard_index, backend)
) STRICT, WITHOUT ROWID;

-- What removals name, seen or not.
CREATE TABLE removed_version (
    version BLOB NOT NULL,
    removal BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    PRIMARY KEY (version, removal)
) STRICT, WITHOUT ROWID;
CREATE INDEX removed_version_by_removal ON removed_version (removal, version);

CREATE TABLE removed_object (
    object BLOB NOT NULL,
    removal BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    PRIMARY KEY (object, removal)
) STRICT, WITHOUT ROWID;
CREATE INDEX removed_object_by_removal ON removed_object (removal, object);

CREATE TABLE removed_shard (
    object BLOB NOT NULL,
    shard_index INTEGER NOT NULL,
    backend BLOB NOT NULL CHECK (length(backend) = 16),
    removal BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1)),
    PRIMARY KEY (object, shard_index, backend, removal)
) STRICT, WITHOUT ROWID;
CREATE INDEX removed_shard_by_removal ON removed_shard (removal, confirmed);

-- How much lies where, kept up to date so that no put has to add it up. State 1 is a missing shard: it takes no space.
CREATE TABLE backend_use (
    backend BLOB NOT NULL PRIMARY KEY CHECK (length(backend) = 16),
    shards INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER shard_added AFTER INSERT ON shard WHEN new.state <> 1 BEGIN
    INSERT INTO backend_use
        SELECT new.backend, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM backend_use WHERE backend = new.backend);
    UPDATE backend_use SET shards = shards + 1, bytes = bytes + new.bytes WHERE backend = new.backend;
END;
CREATE TRIGGER shard_gone AFTER DELETE ON shard WHEN old.state <> 1 BEGIN
    UPDATE backend_use SET shards = shards - 1, bytes = bytes - old.bytes WHERE backend = old.backend;
END;
CREATE TRIGGER shard_changed AFTER UPDATE OF bytes, state ON shard BEGIN
    INSERT INTO backend_use
        SELECT new.backend, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM backend_use WHERE backend = new.backend);
    UPDATE backend_use SET
        shards = shards + (new.state <> 1) - (old.state <> 1),
        bytes = bytes + new.bytes * (new.state <> 1) - old.bytes * (old.state <> 1)
    WHERE backend = new.backend;
END;

-- Local: what this machine alone knows. Kept when the catalog is rebuilt.

CREATE TABLE journal (
    object BLOB NOT NULL PRIMARY KEY CHECK (length(object) = 16),
    process BLOB NOT NULL CHECK (length(process) = 16),
    purpose INTEGER NOT NULL,
    sealed_name BLOB,
    version BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE journal_shard (
    object BLOB NOT NULL REFERENCES journal (object) ON DELETE CASCADE,
    shard_index INTEGER NOT NULL,
    backend BLOB NOT NULL CHECK (length(backend) = 16),
    PRIMARY KEY (object, shard_index, backend)
) STRICT, WITHOUT ROWID;

-- What leases and notes are called is no name of a file.
CREATE TABLE lease (
    resource TEXT NOT NULL PRIMARY KEY,
    process BLOB NOT NULL CHECK (length(process) = 16)
) STRICT, WITHOUT ROWID;

CREATE TABLE note (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    next INTEGER NOT NULL
) STRICT;
INSERT INTO rotation VALUES (1, 0);
