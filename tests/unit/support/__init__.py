"""What other tests rely on is tested too."""
