"""A declarative file of evaluations, each run as a `micl-bench eval` in a process of its own."""
