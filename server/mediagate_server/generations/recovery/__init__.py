"""Recovery after a crash or a lost response; background jobs over stored generations."""
