"""The engine for Pydantic AI agents."""
