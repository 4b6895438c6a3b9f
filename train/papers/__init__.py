"""The result tables of the papers as data, and what of them a network may be held against."""
