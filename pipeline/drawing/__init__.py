"""Drawings of clips: what is drawn (`scene`, `sources`, `compared`, `previewed`), as a page, GIF, SVG or plot."""
