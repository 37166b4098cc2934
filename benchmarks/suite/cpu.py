"""CPU time of other processes, in seconds since they were started."""

import os
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

_FIELDS: Final = (
    "used_cpu_user",
    "used_cpu_sys",
    "used_cpu_user_children",
    "used_cpu_sys_children",
)


def process_cpu_s(pid: int) -> float:
    """Of a process, in user and in system mode; in steps of 10 ms. Linux only (`man 5 proc`)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()  # the program's name may hold anything, blanks too
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def redis_cpu_s(redis: Redis) -> float:
    """Of the server, its rewriting of the append-only file included, by its own account."""
    info = await redis.info("cpu")
    return sum(float(info[field]) for field in _FIELDS)
