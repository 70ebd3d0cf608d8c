"""HTTP servers: operations, links to media, webhooks of Replicate."""
