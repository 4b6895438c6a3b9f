"""What stands between a command and its user: what is printed, what ends a command, and what it then says."""
