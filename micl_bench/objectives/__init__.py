"""One file per pre-training method: views of a batch in, a loss out."""
