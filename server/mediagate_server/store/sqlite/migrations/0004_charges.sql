-- Every settled line of the ledger, with whose it was and what for, so that sums need no documents and
-- outlive them. `line` is the ledger's. Durations are nanoseconds: whole, so that sums are exact.

CREATE TABLE charges (
    line             INTEGER PRIMARY KEY REFERENCES ledger (line),
    generation_id    TEXT NOT NULL,
    ordinal          INTEGER NOT NULL,
    tenant           TEXT NOT NULL,
    model            TEXT NOT NULL,
    modality         TEXT NOT NULL,
    labels           TEXT NOT NULL,
    prediction_id    TEXT NOT NULL,
    settled_us       INTEGER NOT NULL,
    amount_nanos     INTEGER,
    state            TEXT NOT NULL,
    price_as_of      TEXT NOT NULL,
    tier             TEXT NOT NULL,
    outputs          INTEGER NOT NULL,
    input_tokens     INTEGER,
    output_tokens    INTEGER,
    input_characters INTEGER,
    images           INTEGER,
    media_nanos      INTEGER,
    run_nanos        INTEGER
) STRICT;

-- What was settled before. Usage was known of the whole generation, so the last attempt has it.
INSERT INTO charges
SELECT line, id, ordinal, tenant, model, modality, labels, prediction_id,
       CAST(strftime('%s', ended) AS INTEGER) * 1000000
           + CASE WHEN substr(ended, 20, 1) = '.'
                  THEN CAST(substr(substr(ended, 21, 6) || '000000', 1, 6) AS INTEGER) ELSE 0 END,
       amount_nanos, state, price_as_of, '', 0,
       json_extract(used, '$.input_tokens'), json_extract(used, '$.output_tokens'),
       json_extract(used, '$.input_characters'), json_extract(used, '$.images'),
       CAST(round(json_extract(used, '$.media_seconds') * 1e9) AS INTEGER),
       CAST(round(json_extract(used, '$.run_seconds') * 1e9) AS INTEGER)
FROM (
    SELECT ledger.line, generations.id, attempts.ordinal, generations.tenant,
           json_extract(attempt.value, '$.model') AS model, generations.modality, generations.labels,
           coalesce(attempts.prediction_id, '') AS prediction_id,
           coalesce(json_extract(attempt.value, '$.completed_at'),
                    json_extract(generations.document, '$.completed_at'),
                    json_extract(generations.document, '$.created_at')) AS ended,
           ledger.amount_nanos, ledger.state, ledger.price_as_of,
           CASE WHEN attempts.ordinal = json_array_length(generations.document, '$.attempts')
                THEN json_extract(generations.document, '$.usage') END AS used
    FROM ledger
    JOIN attempts ON attempts.id = ledger.attempt_id
    JOIN generations ON generations.id = attempts.generation_id
    JOIN json_each(generations.document, '$.attempts') AS attempt
        ON json_extract(attempt.value, '$.id') = attempts.id
    WHERE ledger.kind = 'settle'
);

CREATE INDEX charges_of_tenant ON charges (tenant, settled_us, line);
CREATE INDEX charges_in_time ON charges (settled_us, line);
CREATE INDEX charges_prediction ON charges (prediction_id) WHERE prediction_id <> '';

CREATE TRIGGER charges_keep_their_lines BEFORE UPDATE ON charges
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER charges_lose_no_line BEFORE DELETE ON charges
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
