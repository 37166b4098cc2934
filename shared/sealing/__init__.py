"""Sealing: what is said is stored so that only those read it who are meant to.

    bytes       key_ring (AES-256-GCM), compression (zstd, gzip), binding (what a seal is bound to)
    values      message_body, message_seal, run_body: what is sealed of a message and of a run
    wrappers    compressed, encrypted, guard over any conversation store; ledger over any ledger
    a backend   `seal_backend` puts all of them in their order
    operation   failure (what becomes of a run that cannot be opened), rotation (of keys)

The format and what it protects are in ``docs/encryption.md``.
"""
