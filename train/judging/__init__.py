"""What evaluations share: what is judged, features, votes, classifiers, figures, and what they leave behind."""
