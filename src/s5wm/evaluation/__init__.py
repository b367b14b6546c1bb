"""Whole episodes of a policy, and what is reported of them."""
