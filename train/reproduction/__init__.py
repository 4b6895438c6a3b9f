"""Reproducing a table of a paper: the commands that it needs, and the folder in which they run."""
