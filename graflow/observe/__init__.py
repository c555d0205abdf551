"""What can be seen of runs while they go on and afterwards."""
