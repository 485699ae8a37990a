"""The same numbers as a peer, step by step."""
