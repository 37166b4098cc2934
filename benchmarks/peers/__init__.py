"""Other systems at the same work: one folder each, run in an environment of its own.

A folder has no `__init__.py`: this one is on the path of the runners, and one named as a library
would hide it.
"""
