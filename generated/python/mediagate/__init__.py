"""The stubs of Mediagate's contract, written by `make generate`. Do not edit."""
