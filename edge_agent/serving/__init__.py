"""The path from a message to its answer, and the loop around it."""
