"""A travel agent that needs no network: its tools, and the script that plays its model."""
