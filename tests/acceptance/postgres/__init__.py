"""The promises with histories in PostgreSQL: the same tests, over a system with two stores."""
