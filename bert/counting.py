"""Numbers of things, in messages."""


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """A number and what it counts: "1 seed", "2 seeds", "12,000 tokens".

    Args:
        number: how many.
        noun: for one of them.
        plural: for none or several, where it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
