"""Parameter rules: how one parameter of the contract becomes inputs of a model."""
