"""The folder that a user works in, and everything that is written there."""
