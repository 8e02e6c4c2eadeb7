"""One number, explained and made again."""
