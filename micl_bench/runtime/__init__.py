"""What every module stands on: files, processes, errors, configuration."""
