"""Exit codes: what a script learns from a command without reading its output."""

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.errors import AgentsError
    from shared.run import RunStatus

DESCRIPTION: Final = """\
Exit codes:
  0    fine; a run that was watched completed
  1    the run failed, or something stored cannot be read or moved
  2    wrong usage, a bad value, or a wrong set-up
  3    the run was cancelled
  4    Redis or the broker does not answer, or no worker is alive
  5    there is no such run, record, conversation or snapshot, or nobody serves such an agent
  130  Ctrl-C: watching stopped, the run goes on

Settings come from the environment: AGENTS_REDIS_URL, AGENTS_BROKER_URL, others."""


class ExitCode(IntEnum):
    """See `DESCRIPTION`, which is part of every command's help."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    UNAVAILABLE = 4
    NOT_FOUND = 5
    INTERRUPTED = 130


def of_error(error: "AgentsError") -> ExitCode:
    """The exit code of a command that ended with `error`."""
    from shared import errors

    # The first that fits: some of these are kinds of others.
    kinds = (
        (errors.UnknownRunError, ExitCode.NOT_FOUND),
        (errors.UnknownAgentError, ExitCode.NOT_FOUND),
        (errors.UnknownConversationError, ExitCode.NOT_FOUND),
        (errors.UnknownSnapshotError, ExitCode.NOT_FOUND),
        (errors.NoWorkerError, ExitCode.UNAVAILABLE),
        (errors.UnavailableError, ExitCode.UNAVAILABLE),
        (errors.RunCancelledError, ExitCode.CANCELLED),
        (errors.ConfigurationError, ExitCode.USAGE),
        (errors.RequestError, ExitCode.USAGE),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), ExitCode.FAILED)


def of_status(status: "RunStatus") -> ExitCode:
    """The exit code of a command that saw a run end like this."""
    from shared.run import RunStatus

    codes = {RunStatus.COMPLETED: ExitCode.OK, RunStatus.CANCELLED: ExitCode.CANCELLED}
    return codes.get(status, ExitCode.FAILED)
