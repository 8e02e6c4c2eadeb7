"""The records of a report: which of them are shown, and which belong together."""
