"""Judges a release by its answers, with stated error rates."""
