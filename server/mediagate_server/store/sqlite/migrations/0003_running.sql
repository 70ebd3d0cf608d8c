-- How many generations of a tenant are not over, kept by the database itself. Each acceptance asks for
-- it, and counting the rows anew took longer than all that the acceptance writes.

CREATE TABLE running (
    tenant      TEXT PRIMARY KEY,
    generations INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO running SELECT tenant, count(*) FROM generations WHERE terminal = 0 GROUP BY tenant;

CREATE TRIGGER running_begins AFTER INSERT ON generations WHEN NEW.terminal = 0
BEGIN
    INSERT INTO running VALUES (NEW.tenant, 1)
        ON CONFLICT DO UPDATE SET generations = generations + 1;
END;
CREATE TRIGGER running_changes AFTER UPDATE OF terminal ON generations
    WHEN NEW.terminal <> OLD.terminal
BEGIN
    UPDATE running SET generations = generations + OLD.terminal - NEW.terminal
        WHERE tenant = NEW.tenant;
END;
CREATE TRIGGER running_is_forgotten AFTER DELETE ON generations WHEN OLD.terminal = 0
BEGIN
    UPDATE running SET generations = generations - 1 WHERE tenant = OLD.tenant;
END;
