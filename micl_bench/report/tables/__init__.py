"""Tables: rows, cells, marks."""
