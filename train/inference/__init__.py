"""Trained networks on new clips, from Python: features by an `Encoder`, actions by a `Classifier`."""

from skelpipe.train.inference.classifier import Classifier, Predictions
from skelpipe.train.inference.encoder import Embeddings, Encoder

__all__ = ["Classifier", "Embeddings", "Encoder", "Predictions"]
