"""Pictures of features."""
