"""What is trained or derived beforehand and shipped as data."""
