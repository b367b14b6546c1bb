"""Run directories: configurations, checkpoints, logs and records, written atomically."""
