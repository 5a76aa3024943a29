"""The user's mistakes, each told in a line that can be acted on."""

REFUSED = 2
"""The exit code of a command with invalid input."""


class UserError(Exception):
    """The user's mistake: printed without a traceback, exit code REFUSED.

    Each message names the argument (or file and line), the value and the constraint. Several faults are reported
    together, one line each.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


def refuse_if(messages: list[str]) -> None:
    """Raise one UserError with all the faults found; do nothing if there are none."""
    if messages:
        raise UserError(*messages)
