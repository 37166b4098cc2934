"""The state machine: whole workers in random orders, over every implementation of the stores.

stage            opens a store, moves its clock, looks inside it
gate, node       real workers that do nothing unless the machine lets them
reference_*      what each call has to answer, in plain Python
observed         makes a call, and compares its answer with the reference
invariants       what has to hold after every step
machine          the steps
"""
