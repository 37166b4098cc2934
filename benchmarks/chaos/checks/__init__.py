"""The checks: each holds one part of the evidence against a promise and names what breaks it."""
