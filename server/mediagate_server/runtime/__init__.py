"""Process and event loop primitives: clock, tasks, cancellation, fair scheduling, failpoints."""
