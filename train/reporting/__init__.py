"""The report of a run: reading its folder, drawing what is in it, and the page that shows it."""
