"""Keeping: what is done with a managed conversation as a whole, across directory, store and ledger.

Each work has several steps, in stores that share no transaction. The record says what was begun
(`Work`) before the first of them and until after the last, so `tidy` finds what was cut off and
does it again; every step may be repeated.
"""
