"""The training program and the host loop around it."""
