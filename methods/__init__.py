"""The methods that are compared: one module and one recipe file for each."""
