"""Training and evaluation: scripts, and the rooms that they share."""
