"""Negatives: shared, hard, by distance, and how many of them at which epoch."""
