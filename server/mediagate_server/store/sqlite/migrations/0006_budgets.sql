-- What is used of each budget, kept by the commits that reserve and settle. A row is of all calls of a
-- tenant that were accepted in a span ('2026-11-24', '2026-11' or 'total') and have a label, or of all
-- of them (an empty key): budgets come and go in the configuration, and what they bound stays true.
-- A row that is missing is made from the ledger; one that is there moves with every entry.
CREATE TABLE budget_use (
    tenant      TEXT NOT NULL,
    span        TEXT NOT NULL,
    label_key   TEXT NOT NULL,
    label_value TEXT NOT NULL,
    spent_nanos INTEGER NOT NULL,
    held_nanos  INTEGER NOT NULL,
    PRIMARY KEY (tenant, span, label_key, label_value)
) STRICT, WITHOUT ROWID;

-- Another limit for a while, set by an admin.
CREATE TABLE budget_overrides (
    tenant      TEXT NOT NULL,
    budget      TEXT NOT NULL,
    limit_nanos INTEGER NOT NULL,
    expires_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, budget)
) STRICT, WITHOUT ROWID;

-- Thresholds that were reached, each once in a span: an outbox for whoever tells of them.
CREATE TABLE budget_crossings (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT NOT NULL,
    budget      TEXT NOT NULL,
    span        TEXT NOT NULL,
    percent     INTEGER NOT NULL,
    spent_nanos INTEGER NOT NULL,
    limit_nanos INTEGER NOT NULL,
    crossed_us  INTEGER NOT NULL,
    UNIQUE (tenant, budget, span, percent)
) STRICT;
