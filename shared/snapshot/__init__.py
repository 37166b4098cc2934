"""Snapshots: a conversation as it was at one time, with what its agent was."""
