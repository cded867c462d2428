"""Model files: finding, opening, testing and running them."""
