"""The result tables of the papers: as data, and as the figures that a measured network is compared with."""
