"""Request validation: rules of fields as data, and the validator that checks a message."""
