"""What a request must be, as data, and the walk that holds a message against it."""
