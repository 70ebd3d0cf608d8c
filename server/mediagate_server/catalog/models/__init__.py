"""Models of the catalog: definitions, TOML files, capabilities and output shapes."""
