"""From a trained policy to a drone: export to ONNX and C, and a runtime that flies them without JAX."""
