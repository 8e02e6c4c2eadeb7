"""One file per table of the report, which declares its columns and the published numbers in them."""
