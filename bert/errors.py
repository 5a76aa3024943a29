"""What a person did wrong, told in a line they can act on."""

REFUSED = 2
"""The exit code of a command that was given something wrong."""


class UserError(Exception):
    """The person's mistake: printed without a traceback, exit code REFUSED.

    Each message names the argument (or file and line), the value and the constraint. Several faults are reported
    together, a line each.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


def refuse_if(messages: list[str]) -> None:
    """Raise one UserError with all the faults found; do nothing where there are none."""
    if messages:
        raise UserError(*messages)
