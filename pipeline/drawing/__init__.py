"""One clip as an animation: what is drawn (`scene`, `sources`) and how (`page`, `gif`)."""
