-- A threshold is so many percent of one limit: where the limit is another, so is the threshold, and each
-- is told once in a span. What was told before keeps its number and the limit that it was told of.
CREATE TABLE crossings_of_limits (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT NOT NULL,
    budget      TEXT NOT NULL,
    span        TEXT NOT NULL,
    limit_nanos INTEGER NOT NULL,
    percent     INTEGER NOT NULL,
    spent_nanos INTEGER NOT NULL,
    crossed_us  INTEGER NOT NULL,
    UNIQUE (tenant, budget, span, limit_nanos, percent)
) STRICT;
INSERT INTO crossings_of_limits (sequence, tenant, budget, span, limit_nanos, percent, spent_nanos,
    crossed_us)
SELECT sequence, tenant, budget, span, limit_nanos, percent, spent_nanos, crossed_us
FROM budget_crossings;
DROP TABLE budget_crossings;
ALTER TABLE crossings_of_limits RENAME TO budget_crossings;
