"""Model catalog: models, aliases and prices as data, and the planning of a request."""
