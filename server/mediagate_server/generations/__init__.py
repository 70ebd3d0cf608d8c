"""The life of one generation, from acceptance to its settled end."""
