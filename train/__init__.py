"""Thin training and evaluation scripts over one shared engine."""
