"""Context of one call: who calls, and the summary that is logged of it."""
