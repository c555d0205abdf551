"""What every backend does alike."""
