"""A declarative file of pre-trainings and evaluations: planned, run once each, in order of need."""
