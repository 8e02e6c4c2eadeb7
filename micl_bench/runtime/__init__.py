"""The foundation of all other modules: files, processes, errors, configuration."""
