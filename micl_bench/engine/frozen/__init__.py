"""Frozen features and what is made of them."""
