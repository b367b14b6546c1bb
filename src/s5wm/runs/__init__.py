"""Run directories: configurations, checkpoints, logs and records, whole or not there."""
