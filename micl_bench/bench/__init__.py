"""Measured speed: all figures that are compared come from one run on one machine."""
