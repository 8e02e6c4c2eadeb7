"""Markdown, LaTeX, CSV and HTML."""
