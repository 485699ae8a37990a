"""Runs on disk: trained, resumed, opened, evaluated."""
