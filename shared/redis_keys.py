"""Every Redis key and channel: name, type, lifetime and purpose.

All keys of one partition carry one hash tag, ``{<prefix>:<partition>}``, and all keys of one
conversation and its runs lie in one partition: so each state change can be one atomic script, on
Redis Cluster too. The tag is followed by a fixed word and then by at most one caller's id, at the
end, so that no id can name another one's key.

    {p:3}:run:<run id>             hash    run_ttl_s after its end   a run's record
    {p:3}:conversation:<history>   hash    for ever (alone: run_ttl) active run, last fencing token
    {p:3}:waiting:<history>        list    while runs wait           run ids, next one first
    {p:3}:interrupting:<history>   list    while runs wait           those that go before them
    {p:3}:runs:<history>           zset    as the conversation       run ids by time of creation
    {p:3}:conversations            zset    for ever                  conversation ids by last run
    {p:3}:status:<status>          zset    pruned after run_ttl_s    run ids by time of creation
    {p:3}:ready:<agent>            zset    while runs are ready      run ids by when overdue
    {p:3}:suspects:<agent>         zset    while runs are ready      suspects, the same way
    {p:3}:ready:<version>!<agent>  zset    while runs are ready      the same, for newer workers
    {p:3}:suspects:<v...>!<agent>  zset    while runs are ready      the same, for newer workers
    {p:3}:newer                    set     for ever                  such <version>!<agent> so far
    {p:3}:leases:<worker id>       zset    while leases exist        run ids by time of the lease
    {p:3}:holders                  set     while leases exist        workers that hold leases here
    {p:3}:cancelling               set     while runs are stopping   run ids asked to stop
    {p:3}:events:<run id>          stream  event_ttl_s               status changes, text deltas
    {p:3}:idempotency:<hash>:<id>  string  idempotency_ttl_s         the run of an idempotency key
    {p:3}:messages:<history>       stream  for ever (alone: run_ttl) the conversation's messages
    {p:3}:history:<history>        hash    as its messages           writer, fencing token, counts
    {p:3}:histories                zset    for ever                  conversation ids by last append
    {p:3}:record:<conversation>    hash    until it is purged        a managed conversation's record
    {p:3}:records                  zset    while there are records   conversation ids by activity
    {p:3}:open                     zset    while there are records   the same, that take runs
    {p:3}:here                     zset    while there are records   the same, that are not archived
    {p:3}:by_user:<user>           zset    while there are records   the same, of one user
    {p:3}:by_agent:<agent>         zset    while there are records   the same, of one agent
    {p:3}:by_channel:<channel>     zset    while there are records   the same, of one channel
    {p:3}:unfinished               zset    while work is being done  conversations to be seen to
    {p:3}:session:<session>        hash    while it has records      generations of a session
    {p:3}:replicated               string  an hour                   written before each WAIT
    {p:3}:snapshot:<snapshot id>   hash    until it is deleted       a snapshot: info and body
    {p:3}:snapshots                zset    while snapshots exist     snapshot ids, by their names
    {p:3}:snapshots_of:<history>   zset    while snapshots exist     those of one conversation
    {p:3}:snapshots_by:<agent>     zset    while snapshots exist     those of one agent
    p:workers                      zset    for ever                  workers by last heartbeat
    p:worker:<worker id>           string  a lease                   what a worker announced
    p:card:<agent>                 string  30 days without workers   an agent's prompts and tools

    {p:3}:notify:run:<run id>        channel   a run's status or events changed
    {p:3}:notify:history:<history>   channel   a conversation's messages changed;
                                               one of a run may ride along
    p:control:<worker id>            channel   ids of runs that a worker shall stop
"""

import hashlib
from dataclasses import dataclass

from shared.identifier import PARTITIONS, partition_of_history, partition_of_run
from shared.run import RunStatus


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds the names above for one prefix."""

    prefix: str

    def tag(self, partition: int) -> str:
        """What every key of a partition starts with."""
        return f"{{{self.prefix}:{partition:x}}}"

    def tags(self) -> list[str]:
        """The tags of all partitions."""
        return [self.tag(partition) for partition in range(PARTITIONS)]

    def tag_of_run(self, run_id: str) -> str:
        """The tag of a run; raises `InvalidIdError` for what is not a run id."""
        return self.tag(partition_of_run(run_id))

    def tag_of_history(self, history: str) -> str:
        """The tag of a conversation, or of the history of a run that is alone."""
        return self.tag(partition_of_history(history))

    def run(self, run_id: str) -> str:
        return f"{self.tag_of_run(run_id)}:run:{run_id}"

    def events(self, run_id: str) -> str:
        return f"{self.tag_of_run(run_id)}:events:{run_id}"

    def conversation(self, history: str) -> str:
        return f"{self.tag_of_history(history)}:conversation:{history}"

    def runs(self, history: str) -> str:
        return f"{self.tag_of_history(history)}:runs:{history}"

    def messages(self, history: str) -> str:
        return f"{self.tag_of_history(history)}:messages:{history}"

    def history(self, history: str) -> str:
        return f"{self.tag_of_history(history)}:history:{history}"

    def histories(self, history: str) -> str:
        return f"{self.tag_of_history(history)}:histories"

    def all_histories(self) -> list[str]:
        """`histories` of each partition."""
        return [f"{tag}:histories" for tag in self.tags()]

    def idempotency(self, tag: str, scope: str, key: str) -> str:
        """The caller's key is hashed, since it may hold anything and be long."""
        digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=16).hexdigest()
        return f"{tag}:idempotency:{digest}:{scope}"

    def record(self, conversation_id: str) -> str:
        return f"{self.tag_of_history(conversation_id)}:record:{conversation_id}"

    def session(self, session: str) -> str:
        return f"{self.tag_of_history(session)}:session:{session}"

    def records(self, tag: str) -> str:
        return f"{tag}:records"

    def open(self, tag: str) -> str:
        return f"{tag}:open"

    def here(self, tag: str) -> str:
        return f"{tag}:here"

    def by_user(self, tag: str, user: str) -> str:
        return f"{tag}:by_user:{user}"

    def by_agent(self, tag: str, agent: str) -> str:
        return f"{tag}:by_agent:{agent}"

    def by_channel(self, tag: str, channel: str) -> str:
        return f"{tag}:by_channel:{channel}"

    def unfinished(self, tag: str) -> str:
        return f"{tag}:unfinished"

    def status(self, tag: str, status: RunStatus) -> str:
        return f"{tag}:status:{status.value}"

    def ready(self, tag: str, name: str) -> str:
        """`name` is an agent's, or ``<version>!<agent>``."""
        return f"{tag}:ready:{name}"

    def suspects(self, tag: str, name: str) -> str:
        return f"{tag}:suspects:{name}"

    def newer(self, tag: str) -> str:
        return f"{tag}:newer"

    def conversations(self, tag: str) -> str:
        return f"{tag}:conversations"

    @property
    def workers(self) -> str:
        return f"{self.prefix}:workers"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}:worker:{worker_id}"

    def card(self, agent: str) -> str:
        return f"{self.prefix}:card:{agent}"

    def snapshot(self, snapshot_id: str) -> str:
        return f"{self.tag_of_snapshot(snapshot_id)}:snapshot:{snapshot_id}"

    def snapshots(self, tag: str) -> str:
        return f"{tag}:snapshots"

    def snapshots_of(self, tag: str, conversation_id: str) -> str:
        return f"{tag}:snapshots_of:{conversation_id}"

    def snapshots_by(self, tag: str, agent: str) -> str:
        return f"{tag}:snapshots_by:{agent}"

    def tag_of_snapshot(self, snapshot_id: str) -> str:
        """The tag that the id names with its last digit; see `shared.snapshot.identity`."""
        return self.tag(int(snapshot_id[-1], 16))

    def run_channel(self, run_id: str) -> str:
        return f"{self.tag_of_run(run_id)}:notify:run:{run_id}"

    def history_channel(self, history: str) -> str:
        return f"{self.tag_of_history(history)}:notify:history:{history}"

    def control_channel(self, worker_id: str) -> str:
        return f"{self.prefix}:control:{worker_id}"


def mark_of_waiting(key: str) -> str:
    """The key of `replicated` in the partition of another key."""
    return f"{key[: key.index('}') + 1]}:replicated"
