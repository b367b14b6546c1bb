"""Flies an exported policy without JAX: NumPy, and ONNX Runtime or a C compiler."""
