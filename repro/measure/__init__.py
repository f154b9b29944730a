"""How fast things are here, and what they cost."""
