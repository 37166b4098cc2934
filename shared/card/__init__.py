"""Agent cards: what an agent is, told by its workers to those who have none of its code."""
