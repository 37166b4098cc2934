"""A conversation store of one's own, over a key-value file, and the contract run over it."""
