"""Bringing conversations elsewhere: to another store, into a file, and back."""
