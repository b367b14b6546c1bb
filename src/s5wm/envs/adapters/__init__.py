"""Adapters: Gymnasium environments on the host, gymnax and brax inside the compiled program."""
