"""Devices and processes of a training, and the settings of JAX that it depends on."""
