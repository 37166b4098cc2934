"""The whole system on one machine, in one command: Redis, a worker, and a run watched live.

python -m examples.quickstart         show it once and leave nothing behind (`make run`)
python -m examples.quickstart up      start it and leave it running (`make up`)
python -m examples.quickstart down    stop what `up` started (`make down`)
"""
