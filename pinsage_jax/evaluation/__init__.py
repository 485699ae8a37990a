"""Hit-rate, MRR, recall, baselines, and probes of frozen vectors."""
