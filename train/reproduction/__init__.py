"""What has to be run for a table of a paper, and how far that is."""
