"""HTTP middleware of the sandbox: authentication, rate limit."""
