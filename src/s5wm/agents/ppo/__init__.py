"""Proximal policy optimisation, the model-free baseline."""
