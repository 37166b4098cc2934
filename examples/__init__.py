"""Programs to read and run: agents, an app server, and the whole system in one command."""
