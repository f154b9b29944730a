"""The evaluations: one module and one file of protocols for each."""
