"""A seeded fuzz of requests: any rpc, any message, forged tokens, in front of permissive models."""
