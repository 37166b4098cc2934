"""Engines: what runs the agent loop."""
