"""Results: what they are, where they are kept, what is published beside them."""
