//! The tables, and the steps by which those of an older program become them.
//!
//! A step that was once released is never changed: what it made is on disks. A new one is added at the
//! end, with a row of its own in the test of all versions.

use rusqlite_migration::{M, Migrations};

/// Steps from nothing to the newest version, which is their number.
pub(super) const STEPS: &[M<'static>] = &[M::up(FIRST), M::up(NETWORK), M::up(SECRETS), M::up(TREES)];

/// The newest version.
pub(super) const VERSION: usize = STEPS.len();

/// All steps.
pub(super) fn migrations() -> Migrations<'static> {
    Migrations::from_slice(STEPS)
}

/// What a session can reach, in postcard; nothing where it is as its profile says.
const NETWORK: &str = "ALTER TABLE sessions ADD COLUMN network BLOB;";

/// A list (variant 2) says at its end which secrets there are: none, in what was stored before.
const SECRETS: &str =
    "UPDATE sessions SET network = CAST(network || x'00' AS BLOB) WHERE substr(network, 1, 1) = x'02';";

/// What was installed for a session, in postcard; nothing where that is nothing.
const TREES: &str = "ALTER TABLE sessions ADD COLUMN trees BLOB;";

/// Numbers that are 64 bits wide and unsigned are stored as the signed ones with the same bits. Lists and
/// maps are postcard.
const FIRST: &str = "
CREATE TABLE sessions (
    id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    persistent INTEGER NOT NULL CHECK (persistent IN (0, 1)),
    runtimes BLOB NOT NULL,
    profile TEXT NOT NULL,
    wall_time_ms INTEGER NOT NULL,
    cpu_time_ms INTEGER NOT NULL,
    cpu_millis INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    processes INTEGER NOT NULL,
    open_files INTEGER NOT NULL,
    file_size_bytes INTEGER NOT NULL,
    disk_bytes INTEGER NOT NULL,
    disk_files INTEGER NOT NULL,
    output_bytes INTEGER NOT NULL,
    stack_bytes INTEGER NOT NULL,
    env BLOB NOT NULL,
    labels BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    last_used_ms INTEGER NOT NULL,
    idle_timeout_ms INTEGER NOT NULL,
    lifetime_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    cpus BLOB,
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'stopped', 'ending')),
    lost INTEGER NOT NULL CHECK (lost IN (0, 1)),
    saved INTEGER,
    CHECK (persistent OR status <> 'stopped')
) STRICT;

CREATE TABLE execs (
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    argv BLOB NOT NULL,
    detached INTEGER NOT NULL CHECK (detached IN (0, 1)),
    rows INTEGER,
    columns INTEGER,
    started_at_ms INTEGER NOT NULL,
    wall_time_ms INTEGER NOT NULL,
    cpu_time_ms INTEGER NOT NULL,
    cpu_millis INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    processes INTEGER NOT NULL,
    open_files INTEGER NOT NULL,
    file_size_bytes INTEGER NOT NULL,
    disk_bytes INTEGER NOT NULL,
    disk_files INTEGER NOT NULL,
    output_bytes INTEGER NOT NULL,
    stack_bytes INTEGER NOT NULL,
    finished BLOB,
    PRIMARY KEY (session, id),
    CHECK ((rows IS NULL) = (columns IS NULL))
) STRICT;

CREATE TABLE snapshots (
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    label TEXT,
    created_at_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL,
    saved INTEGER NOT NULL CHECK (saved IN (0, 1)),
    PRIMARY KEY (session, id)
) STRICT;

CREATE TABLE contexts (
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    language TEXT NOT NULL,
    exec INTEGER NOT NULL,
    PRIMARY KEY (session, id)
) STRICT;
";
