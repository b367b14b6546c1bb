"""Experiments by name, from their configuration to a trained and evaluated run."""
