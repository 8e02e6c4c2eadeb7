"""Linear probes: classifiers on frozen features."""
