"""What can be seen of runs."""
