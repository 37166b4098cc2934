"""Conversations on the disk of this machine: what the stores in files and in SQLite share.

`store` has the rules and the async face, once. `storage` says what a place on disk must be able to
do; `shared.conversation.file` and `shared.conversation.sqlite` are the two places.
"""
