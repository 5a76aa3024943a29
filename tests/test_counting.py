"""Numbers of things, in messages."""

from bert.counting import count_of


def test_one_is_singular_and_all_else_plural():
    assert [count_of(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert [count_of(number, "entity", "entities") for number in (1, 2)] == ["1 entity", "2 entities"]


def test_large_numbers_have_commas():
    assert count_of(12_000, "token") == "12,000 tokens"
