"""What several methods share: views, encoders, heads, losses, momentum copies."""
