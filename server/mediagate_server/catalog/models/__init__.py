"""Models of the catalog: their files, what they offer, the shapes of their outputs."""
