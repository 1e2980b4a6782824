"""Figures that say how good a model is, and what a good figure would be."""
