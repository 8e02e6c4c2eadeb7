"""What every long run needs: states, ownership, signals, journal."""
