"""Training with labels: recipes, what it starts from, the run, and the classifier that it leaves."""
