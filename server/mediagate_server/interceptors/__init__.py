"""What stands around every rpc (inbound) and every request to Replicate (outbound)."""
