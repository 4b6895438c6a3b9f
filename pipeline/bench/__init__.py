"""What `skelpipe bench` measures: augmentation and reading on this machine, each against a simple alternative."""
