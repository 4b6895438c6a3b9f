"""Recipes: how a network is pre-trained, trained with labels or evaluated, as checked and typed values."""
