"""What is measured: data, graphs, steps."""
