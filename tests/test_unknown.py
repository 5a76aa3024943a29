"""How much of a text becomes [UNK], counted by hand."""

from bert.unknown import unknown_characters


def test_a_token_counts_by_its_characters_and_spaces_do_not_count():
    text = "the unknowable\tcat \u2603"
    ranges = [(0, 3), (4, 14), (15, 18), (19, 20)]
    assert unknown_characters(text, [7, 1, 8, 1], ranges, unk_id=1) == (11, 17)
    assert unknown_characters(text, [7, 9, 8, 2], ranges, unk_id=1) == (0, 17)
    assert unknown_characters(" ", [], [], unk_id=1) == (0, 0)
