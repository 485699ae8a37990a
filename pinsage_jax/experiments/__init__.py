"""The paper's table 1 and what goes with it: variants, claims, tables."""
