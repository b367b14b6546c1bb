"""Environments of others as ours: Gymnasium's on the host, gymnax's and brax's inside the compiled program."""
