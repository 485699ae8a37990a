"""How something is measured, reported and kept."""
