"""The chaos harness: a whole system under load, while its parts are killed, frozen and cut off.

python -m benchmarks.chaos --runs 300 --workers 4 --minutes 3 --seed 1 [--broker rabbitmq]

plan, script, recorded   what is submitted, from the seed
schedule                 which faults come when, from the seed
site, broker, relay      Redis, the broker, worker processes
agents, journal          what the workers serve, and what it leaves outside of Redis
load, watching           submits, cancels; watchers in this process and in another one
faults                   the schedule, carried out
evidence, verify         what was left behind, held against what was promised
checks                   one module for each kind of promise
recovery                 how long runs waited for another worker, from the workers' logs
view, report             the live view, the table at the end
"""
