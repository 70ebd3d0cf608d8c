"""The sandbox's endpoints, one file per resource."""
