"""What is compared: one module and one recipe file a method."""
