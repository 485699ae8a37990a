"""Side by side with PyTorch, in one run: ``python -m benchmarks NAME``."""
