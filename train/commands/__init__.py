"""What the scripts do once their options are checked, one module per script; here torch is imported."""
