"""Which results there are, and what belongs together."""
