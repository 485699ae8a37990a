"""Runs on disk: what is stored, how training starts, ends and goes on."""
