"""Context of one rpc: its caller, and the summary for log and trailer."""
