"""Tests of what a model sees of a conversation."""
