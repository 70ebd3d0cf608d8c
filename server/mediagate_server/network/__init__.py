"""HTTP and URLs in general: egress policy, request URLs, content encoding."""
