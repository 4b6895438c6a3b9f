"""What evaluations share: how they begin, the network, its features, classifiers on them, and the outcome."""
