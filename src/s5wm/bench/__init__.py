"""Measurements of speed that commands and `benchmarks/` share; they need nothing beyond the core."""
