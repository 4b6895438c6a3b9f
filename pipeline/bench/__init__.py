"""Figures of speed on this machine, each beside a plain way of doing the same."""
