"""Evaluation: whole episodes of a policy, and the reported metrics."""
