"""`python -m skelpipe` runs the `skelpipe` command."""

from skelpipe.cli import main

main(prog_name="skelpipe")
