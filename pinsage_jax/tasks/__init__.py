"""What a model is trained for and evaluated by: pairs, held-out parts, queries."""
