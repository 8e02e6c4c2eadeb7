"""Evidence: the results of each image behind a number."""
