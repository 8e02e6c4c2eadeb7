"""Results: records, the store of them, and published numbers beside them."""
