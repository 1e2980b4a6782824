"""Metrics that say how good a model is, and what a good metric would be."""
