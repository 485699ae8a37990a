"""Figures of quality, beside baselines and published ones."""
