"""Collections: files that hold many recordings, as other programs keep them, and the formats of an import."""
