"""The encoder: algorithm 1, algorithm 2 for mini-batches, and all items layer by layer."""
