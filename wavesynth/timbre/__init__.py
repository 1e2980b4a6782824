"""Timbres: points and paths in latent space, their interpolation, and search."""
