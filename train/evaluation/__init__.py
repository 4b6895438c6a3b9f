"""What evaluations share: the network, its features, classifiers on them, and the folder that is left."""
