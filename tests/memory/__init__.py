"""What only the backend in memory does."""
