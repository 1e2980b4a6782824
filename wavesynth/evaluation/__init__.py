"""Evaluation metrics, and baselines to compare them with."""
