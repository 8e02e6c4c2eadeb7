"""Tables and reports as Markdown, LaTeX, CSV and HTML."""
