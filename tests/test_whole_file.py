import pytest

from bert import whole_file


def test_content_takes_the_place_of_what_was_there_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "new folder" / "글.txt"
    whole_file.write(file, "하나\n")
    whole_file.write(file, "둘\r\n")
    assert file.read_bytes() == "둘\r\n".encode()
    assert list(file.parent.iterdir()) == [file]


def test_whoever_has_the_file_open_keeps_what_it_held(tmp_path):
    file = tmp_path / "a.txt"
    whole_file.write(file, "before")
    with file.open() as reader:
        whole_file.write(file, "after")
        assert (reader.read(), file.read_text()) == ("before", "after")


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "a.txt"
    whole_file.write(file, "before")
    with pytest.raises(UnicodeEncodeError):
        whole_file.write(file, "\ud800")
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]
