"""The encoder: algorithm 1 for one layer, algorithm 2 for a mini-batch, all items at once."""
