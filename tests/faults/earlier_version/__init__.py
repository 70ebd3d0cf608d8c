"""A data folder that an earlier version wrote, what upstream knew of it, and how it was made."""
