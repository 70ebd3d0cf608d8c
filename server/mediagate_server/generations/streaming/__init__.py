"""A text on its way: following a prediction, reading its stream, publishing to callers."""
