"""Results against each other and against published ones."""
