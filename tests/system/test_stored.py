"""What stored text is read through: files only, and limits that a test can reach."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tunehook.space import Choice, SpaceError
from tunehook.sweep import read_space
from tunehook.system import StoredError, from_json, open_regular, read_lines, read_whole, shown, stored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 101 + "]" * 101, "it is nested deeper than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "it is nested deeper than 100 levels"),
        (b"[" * 100_000, "it is nested deeper than 100 levels"),
        (b"\xff", "it is not JSON: 'utf-8' codec can't decode"),
        ("1" * 5000, "it is not JSON: Exceeds the limit (4300 digits)"),
        ("{", "it is not JSON: Expecting property name"),
    ],
)
def test_what_is_no_value(text: str | bytes, message: str) -> None:
    """It is told in a few words, with no traceback of the parser's."""
    with pytest.raises(StoredError, match=f"^{re.escape(message)}"):
        from_json(text)


def test_a_hundred_levels_are_read() -> None:
    """And any number of brackets beside each other, or in a text."""
    assert from_json("[" * 100 + "]" * 100)
    assert from_json("[" + "[]," * 5000 + "[]]") == [[]] * 5001
    assert from_json('"' + "[" * 500 + '"') == "[" * 500


def test_what_is_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is refused; a long line is cut off, and the next ones are read, unless it is far too long."""
    monkeypatch.setattr(stored, "MOST", 10)
    (tmp_path / "x").write_bytes(b"[1]\n[2,3]\n[4,5,6,7,8,9]\n[1]\n")
    with pytest.raises(StoredError, match=r"^it is longer than 10 bytes$"):
        from_json("[4,5,6,7,8,9]")
    with (tmp_path / "x").open("rb") as file:
        assert [*read_lines(file)] == [b"[1]", b"[2,3]", b"[4,5,6,7,8,", b"[1]"]
    (tmp_path / "far").write_bytes(b"1" * 500 + b"\n[1]\n")
    with (tmp_path / "far").open("rb") as file:
        assert [*read_lines(file)] == [b"1" * 11]
    with (tmp_path / "x").open("rb") as file, pytest.raises(StoredError, match=r"^it is larger than 20 bytes$"):
        read_whole(file, most=20)


def test_a_line_without_end(tmp_path: Path) -> None:
    """A file of a terabyte without a line's end is read up to the limit."""
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**40)
    with (tmp_path / "x").open("rb") as file:
        assert [len(line) for line in read_lines(file)] == [stored.MOST + 1]


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/stdin", "folder"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    """It is refused at once, also a pipe that nobody writes to."""
    path = Path(kind) if kind.startswith("/") else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(OSError, match=r"Is no file|Is a directory|No such device"):
        open_regular(str(path), os.O_RDONLY)
    with pytest.raises(
        SpaceError, match=f"^{re.escape(str(path))} cannot be read: (Is no file|Is a directory|No such)"
    ):
        read_space(path)


_LAUGHS = "\n".join(["a0: &a0 [1, 2]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_LAUGHS, "it holds more than 200,000 values with its aliases (line 17)"),
        (
            _LAUGHS.replace("[*", "{<<: [*").replace("]", "]}").replace("[1, 2]}", "{x: 1}"),
            "it holds more than 200,000",
        ),
        ("&a {parameters: *a}", "an alias stands within what it means (line 1)"),
        ("x:\n  - &a [*a]", "an alias stands within what it means (line 2)"),
        ("x:\n  value: !!int ''", "'' is no int (line 2)"),
        ("? !!int ''\n: 1", "IndexError: string index out of range"),
        ("x: !!timestamp never", "'never' is no timestamp (line 1)"),
        (f"x: {{value: 1{':1' * 300_000}}}", "a number has more than 400 characters (line 1)"),
        (f"x: {{value: {10**400}}}", "a number has more than 400 characters (line 1)"),
        ("[" * 100_000, "it is nested deeper than 100 levels"),
        (
            "\n".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 1}]" for i in range(200)),
            "it is nested deeper than 100 levels",
        ),
        ("x" * 2_000_000, "it is larger than 1,048,576 bytes"),
        ("x: \xff", "'utf-8' codec can't decode byte 0xff"),
    ],
    ids=range(13),
)
def test_sweep_files_that_explode(text: str, message: str, tmp_path: Path) -> None:
    """They are small, and what they mean has no end, or is nothing; the file is named, and mostly the line."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpaceError, match=f"^{re.escape(f'{path} is not valid YAML: {message}')}"):
        read_space(path)


def test_many_values(tmp_path: Path) -> None:
    """A sweep over 20,000 values is one."""
    path = tmp_path / "sweep.yaml"
    path.write_text(f"parameters: {{x: {{values: {[*range(20_000)]}}}}}")
    (choice,) = read_space(path).values()
    assert isinstance(choice, Choice)
    assert [choice.decode(raw) for raw in range(0, 20_000, 7)] == [*range(0, 20_000, 7)]


def test_values_in_messages() -> None:
    """Cut off where they are long, and told by their type where they have no text."""
    endless: list[object] = []
    for _ in range(100_000):
        endless = [endless]
    assert shown("a" * 600) == f"'{'a' * 499}..."
    assert shown(10**5000) == "a value of type int"
    assert shown(endless) == "a value of type list"
    while endless:  # Python itself would take it apart by recursion
        endless = endless[0]  # type: ignore[assignment]
