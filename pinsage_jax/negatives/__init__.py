"""Which items a query is trained against: shared, hard and distance-weighted negatives."""
