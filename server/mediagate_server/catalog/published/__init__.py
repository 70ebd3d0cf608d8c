"""Published models: what Replicate says of a model, cached, and drift of the catalog from it."""
