"""How one parameter of the contract reaches a model: small named rules, chosen by data."""
