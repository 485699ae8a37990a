"""Whether our numbers are a peer's, step by step."""
