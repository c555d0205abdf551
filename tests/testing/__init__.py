"""What Graflow offers to tests."""
