-- Webhooks that wait are taken from one tenant after the other.
CREATE INDEX callbacks_due_of ON callbacks (tenant, due_us) WHERE state = 'waiting';
