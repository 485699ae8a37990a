"""What a model is trained for and judged by: pairs, held-out parts, queries."""
