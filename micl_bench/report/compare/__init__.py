"""Results compared with each other and with published ones."""
