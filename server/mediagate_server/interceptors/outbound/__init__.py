"""Around each request to Replicate, one concern a file."""
