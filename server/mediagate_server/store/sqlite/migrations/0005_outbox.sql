-- What callers are to be told of. A generation with a webhook has its row from its acceptance on
-- ('promised'); the commit that ends it makes it 'waiting'. Delivered, a row is gone; after its last try
-- it is 'undelivered'. URLs may hold secrets: they are sealed.
CREATE TABLE callbacks (
    id            TEXT PRIMARY KEY,
    tenant        TEXT NOT NULL,
    state         TEXT NOT NULL,
    kind          TEXT NOT NULL,
    generation_id TEXT NOT NULL,
    host          TEXT NOT NULL,
    url           BLOB NOT NULL,
    facts         TEXT NOT NULL,
    happened_us   INTEGER NOT NULL,
    due_us        INTEGER NOT NULL,
    tries         INTEGER NOT NULL,
    http_status   INTEGER NOT NULL,
    tried_us      INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX callbacks_due ON callbacks (due_us) WHERE state = 'waiting';
CREATE INDEX callbacks_undelivered ON callbacks (id) WHERE state = 'undelivered';
CREATE INDEX callbacks_of ON callbacks (generation_id) WHERE state = 'promised';

-- What a tenant's webhooks are signed with. `shown`: somebody has got it. `expires_us`: it was rotated.
CREATE TABLE webhook_secrets (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    shown      INTEGER NOT NULL,
    expires_us INTEGER
) STRICT;
CREATE INDEX webhook_secrets_of ON webhook_secrets (tenant);
