"""What pose estimators and number tables write, and people followed through its frames."""
