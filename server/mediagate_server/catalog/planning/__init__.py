"""Planning: a request becomes an execution plan: model, inputs, fallback chain, safety checks."""
