"""Weights under the keys of other libraries, in both directions."""
