"""From what somebody passes as a window to the policy that it means."""

from typing import cast

from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import Choose, OwnChoice
from agent_worker.window.protocol import WindowPolicy
from shared.errors import AgentDefinitionError


def policy_of(window: WindowPolicy | Choose | None) -> WindowPolicy:
    """The policy: one is taken as it is, a function is an `OwnChoice`, None the last messages.

    Raises:
        AgentDefinitionError: It is none of these, or a function that cannot choose.
    """
    if window is None:
        return LastMessages()
    is_instance = not isinstance(window, type)
    if is_instance and all(hasattr(window, name) for name in ("build", "first_read", "name")):
        return cast(WindowPolicy, window)
    if is_instance and callable(window):
        return OwnChoice(window)
    raise AgentDefinitionError(
        f"{window!r} is no window. Pass LastMessages(20), TokenBudget(8000), Summarise(...), an "
        "object with the members of `agent_worker.window.protocol.WindowPolicy`, or a function "
        "that gets messages and returns some of them."
    )
