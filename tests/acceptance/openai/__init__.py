"""The promises with contents at OpenAI: the same tests, over a system with a provider beside it."""
