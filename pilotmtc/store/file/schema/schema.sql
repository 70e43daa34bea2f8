-- The store's tables as of schema 1; migrations.py says what came after, and runs these statements, which are separated by
-- blank lines, one by one in one transaction. Other programs should read the views (views.py), which stay as they are;
-- tables may change. State and cause numbers are those of pilotmtc/states.py. Times are seconds since the epoch, UTC.

CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,          -- made by the client: what makes a repeated Submit safe
    name TEXT NOT NULL,
    created_at REAL NOT NULL,
    received INTEGER NOT NULL,         -- rows that are here
    sealed INTEGER NOT NULL,           -- all rows are here
    first_id INTEGER NOT NULL,         -- its tasks lie within these ids, perhaps among those of others
    last_id INTEGER NOT NULL
)

-- What tasks have in common, once each: found again by a hash of the content.
CREATE TABLE template (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body TEXT NOT NULL)

CREATE TABLE resources (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body TEXT NOT NULL)

CREATE TABLE pilot (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    campaign_id INTEGER REFERENCES campaign(id),
    state INTEGER NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    seen_at REAL,
    host TEXT NOT NULL DEFAULT '',
    pid INTEGER NOT NULL DEFAULT 0,
    nodes INTEGER NOT NULL DEFAULT 0,
    cores INTEGER NOT NULL DEFAULT 0,
    busy INTEGER NOT NULL DEFAULT 0,
    directory TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    batch TEXT,
    native_state TEXT NOT NULL DEFAULT '',
    claim_no INTEGER NOT NULL DEFAULT 0,   -- the last claim that was given something
    orders INTEGER NOT NULL DEFAULT 0,     -- grows with every order
    drain INTEGER NOT NULL DEFAULT 0,
    kill INTEGER NOT NULL DEFAULT 0
)

-- 50 bytes a task: small columns first, NULL, 0 and 1 take no room at all.
CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    campaign_id INTEGER NOT NULL REFERENCES campaign(id),
    template_id INTEGER NOT NULL REFERENCES template(id),
    resources_id INTEGER NOT NULL REFERENCES resources(id),
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,          -- only grows; 0 before the first claim
    priority INTEGER NOT NULL,
    params TEXT,                       -- JSON array, in the order of the template's fields
    pilot_id INTEGER REFERENCES pilot(id),
    claim_no INTEGER,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    unmet INTEGER NOT NULL,            -- while WAITING: dependencies that are not over
    not_before REAL,                   -- while READY: the pause before a retry
    cancel INTEGER NOT NULL,           -- while held: the user wants it ended
    started_at REAL,
    name TEXT,
    tags TEXT                          -- JSON array
)

-- What may be claimed, in the order of claiming, by what claims ask about first.
CREATE INDEX task_ready ON task(campaign_id, resources_id, priority DESC) WHERE state = 1 AND not_before IS NULL

CREATE INDEX task_held ON task(pilot_id) WHERE state IN (2, 3)

-- Not IN (5, 6, 7): SQLite makes a table of three or more values for every row that changes.
CREATE INDEX task_ended ON task(id) WHERE state >= 5

CREATE INDEX task_backoff ON task(not_before) WHERE not_before IS NOT NULL

CREATE INDEX task_name ON task(campaign_id, name) WHERE name IS NOT NULL

-- One b-tree is uniqueness, lookup and order: id = task * 2^20 + attempt.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    cause INTEGER NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    pilot_id INTEGER NOT NULL REFERENCES pilot(id),
    node TEXT NOT NULL,
    slot TEXT NOT NULL,
    started_at REAL NOT NULL,
    elapsed_s REAL NOT NULL,
    cpu_s REAL NOT NULL,
    memory_bytes INTEGER NOT NULL,
    stdout_bytes INTEGER NOT NULL,
    stderr_bytes INTEGER NOT NULL,
    stdout_path TEXT,
    stderr_path TEXT,
    message TEXT,
    recorded_at REAL NOT NULL
)

-- Only for attempts that wrote something.
CREATE TABLE output (id INTEGER PRIMARY KEY REFERENCES attempt(id), stdout BLOB NOT NULL, stderr BLOB NOT NULL)

-- A task needs others; needs_id < task_id always, so ids are a topological order.
CREATE TABLE dependency (
    needs_id INTEGER NOT NULL REFERENCES task(id),
    task_id INTEGER NOT NULL REFERENCES task(id),
    well INTEGER NOT NULL,
    PRIMARY KEY (needs_id, task_id)
) WITHOUT ROWID

CREATE INDEX dependency_task ON dependency(task_id, needs_id)

-- Counts without scanning; written in the transaction that changes the states.
CREATE TABLE tally (
    campaign_id INTEGER NOT NULL REFERENCES campaign(id),
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, state)
) WITHOUT ROWID

-- Replies to Cancel, Retry and Edit, so that a repeated one does nothing; kept for a day.
CREATE TABLE control (key TEXT PRIMARY KEY, reply BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID
