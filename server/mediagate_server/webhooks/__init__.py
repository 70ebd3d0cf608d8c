"""Webhooks to callers: events from the outbox are signed and posted until they are delivered."""
