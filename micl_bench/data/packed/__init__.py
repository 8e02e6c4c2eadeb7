"""Packed stores of pixels."""
