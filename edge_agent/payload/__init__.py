"""From bytes to checked values: payload formats and features."""
