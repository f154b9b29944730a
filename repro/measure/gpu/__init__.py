"""What a few minutes of a GPU can settle: `repro gpu`."""
