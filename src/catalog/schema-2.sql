-- Schema 2: backups of the catalog.

-- In which order objects came to be known here; no number is given twice. It says what is newer than a backup.
CREATE TABLE arrival (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    object BLOB NOT NULL UNIQUE CHECK (length(object) = 16)
) STRICT;
INSERT INTO arrival (object) SELECT id FROM object ORDER BY id;
CREATE TRIGGER object_arrived AFTER INSERT ON object BEGIN
    INSERT INTO arrival (object) VALUES (new.id);
END;
CREATE TRIGGER object_left AFTER DELETE ON object BEGIN
    DELETE FROM arrival WHERE object = old.id;
END;

-- Content: objects that back up a catalog, and which part of which backup they are.
CREATE TABLE backup_part (
    object BLOB NOT NULL PRIMARY KEY REFERENCES object (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    records INTEGER NOT NULL,
    -- On the last part of a backup: its parts, as JSON.
    whole TEXT
) STRICT, WITHOUT ROWID;
