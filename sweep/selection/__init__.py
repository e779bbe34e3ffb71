"""Which trials win, and by how much."""
