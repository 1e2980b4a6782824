"""Datasets: from a folder of sounds to batches of arrays."""
