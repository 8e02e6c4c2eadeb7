"""Frozen features, and the classifiers and pictures that are made of them."""
