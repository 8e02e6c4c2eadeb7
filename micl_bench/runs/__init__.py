"""What every long run needs: the loop, states, ownership, signals, journal."""
