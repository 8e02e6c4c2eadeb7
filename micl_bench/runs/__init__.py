"""The parts of every long run: the loop, states, ownership, signals, journal."""
