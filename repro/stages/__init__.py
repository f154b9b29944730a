"""What a job does: each stage takes plain values, does its work, and returns the content of its record."""
