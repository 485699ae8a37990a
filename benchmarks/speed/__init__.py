"""Times beside a peer's, in one alternation."""
