"""One file a table of the report: which columns it has, which published numbers belong in it."""
