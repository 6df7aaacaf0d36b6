"""What keeps a run the same whatever its layout."""
