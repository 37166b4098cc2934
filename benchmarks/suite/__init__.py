"""The suite: measurements by name, one after the other, and what is written down of them."""
