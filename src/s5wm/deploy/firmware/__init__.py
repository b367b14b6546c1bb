"""Betaflight firmware, compiled for this machine, in lockstep with the simulated drone of the runtime."""
