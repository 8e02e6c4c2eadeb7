"""Supervised training of a classifier."""
