"""Conversations: where messages are kept."""
