"""What people see: a study in a real terminal, the lines of others above its table, and our own lines."""

from __future__ import annotations

import io
import logging
import os
import re
import sys

import pytest

from screen import Screen, run_script
from tunehook.system.terminal import make_visible, written_above


class Terminal(io.StringIO):
    """A text that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard output and error one terminal; pytest has its own streams while fixtures are made."""
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    return made


# ---------------------------------------------------------------------- a study in a terminal


def table_of(screen: Screen) -> list[str]:
    """The lines of the table that stands on the screen, from its title."""
    text = screen.text
    first = max(number for number, line in enumerate(text) if line == "study six")
    return text[first:]


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_a_study_with_workers_in_a_terminal(columns: int, lines: int) -> None:
    """One table stays in place, with the best trial in sight; at the end stands where the study is."""
    titles: list[int] = []
    heights: list[int] = []
    unmarked: list[list[str]] = []

    def look(screen: Screen, _: int) -> None:
        titles.append(sum(line == "study six" for line in screen.text))
        if screen.has(" trials, best val_accuracy 0.99 (*)"):
            drawn = [line for line in table_of(screen) if line]
            heights.append(len(drawn))
            if not any(re.match(r"[│ ]*1 \*[ │]", line) for line in drawn):
                unmarked.append(drawn)

    screen, code = run_script("terminal_script.py", "16", "2", columns=columns, lines=lines, look=look)
    assert (code, screen.unknown) == (0, set())
    assert max(titles) == 1
    assert max(heights) < lines
    assert not unmarked
    text = "\n".join(screen.text)
    for name in ("lr", "weight", "dense_1", "dense_2", "rate", "batch", "val"):
        assert re.search(rf"\b{name}\b", text)
    rows = [line for line in screen.text if re.search(r"^[│ ]*\d+( \*)?[ │]+complete", line)]
    assert len(rows) == 12
    assert all(len(re.findall(r"[\d.]+(?:e-?\d+)?", row)) >= 8 for row in rows)
    ending = screen.text[screen.text.index("study six: 16 of 16 trials finished (16 complete)") :]
    assert ending[1].startswith("best val_accuracy 0.99, trial 1: optimizer.lr=")
    assert ending[-2:] == ["best 1", ""]
    assert ending[-3] == "record: tunehook-studies/six/trial-0001/journal.jsonl"
    assert "a line of the training" not in text


@pytest.mark.slow
def test_what_others_write_stands_above_the_table() -> None:
    """Old handlers, print, colours, warnings and our own lines are whole, in their order, and tear nothing."""
    screen, code = run_script("terminal_script.py", "6", "2", "loud")
    assert (code, screen.unknown) == (0, set())
    text, joined = screen.text, "".join(line.ljust(80) for line in screen.text)
    # A warning names its file, so how its line breaks is a matter of where the project is.
    words = " ".join(joined.split())
    assert text[0].startswith("tunehook: bayes: ")
    title = text.index("study six")
    assert text.count("study six") == 1
    for count in range(1, 7):
        said = f"an old handler says {count}, {'x' * 80}"
        assert said in joined
        for line in (f"print says {count}", f"colours say {count}"):
            assert text.index(line) < title
        assert re.search(rf"a warning says {count}\b", words)
    assert all("│" not in line and "trial  state" not in line for line in text[:title])


@pytest.mark.slow
def test_ctrl_c_is_answered_above_the_table() -> None:
    """What a first Ctrl-C means is there to read while the trials end, and the terminal is in order after."""
    pressed: list[int] = []
    heard: list[list[str]] = []

    def look(screen: Screen, keys: int) -> None:
        if not pressed and screen.has("running"):
            pressed.append(os.write(keys, b"\x03"))
        if screen.has("tunehook: Ctrl-C: no new trials") and screen.has("study six"):
            heard.append(screen.text)

    screen, code = run_script("terminal_script.py", "40", "2", look=look)
    assert code in (1, -2, 130)
    joined = "".join(line.ljust(80) for line in screen.text)
    assert "tunehook: Ctrl-C: no new trials; the running ones end in good order. Once more ends them at once." in joined
    assert heard
    assert any(line.startswith("study six: ") and "of 40 trials finished" in line for line in screen.text)


@pytest.mark.slow
def test_a_study_in_this_process_in_a_terminal() -> None:
    """One line a trial, whole, and no table; then where the study is."""
    screen, code = run_script("terminal_script.py", "3", "0")
    assert (code, screen.unknown) == (0, set())
    text = " ".join(line.strip() for line in screen.text)
    assert "study six " not in text
    for number in range(3):
        best = "0.99" if number else r"[\d.]+"
        told = "" if number else r"tunehook: Study 'six': trials are not paused [^\[]*"
        line = (
            rf"a line of the training {number} {told}\[{number + 1}/3\] trial {number}: complete, val_accuracy [\d.]+ "
            r"\(lr=\S+ weight_decay=\S+ dense_1.units=\d+ dense_2.units=\d+ rate=\S+ batch_size=\d+; 0.\d s\); best "
            rf"{best} "
        )
        assert re.search(line, text)
    assert text.index("study six: 3 of 3 trials finished (3 complete)") > text.index("[3/3]")
    assert all(len(line) <= 80 for line in screen.text)


# ---------------------------------------------------------------------- lines of others


def test_lines_are_handed_over_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is written in pieces comes once it is whole, one that is never ended at the end."""
    terminal, shown = make_terminal(monkeypatch), list[str]()
    with written_above(shown.append):
        print("one", end="")
        sys.stderr.flush()
        assert shown == []
        print(" line")
        sys.stdout.write("two\n\nthree")
        assert sys.stdout.isatty()
        sys.stdout.writelines(["", " and", " four"])
        kept = sys.stdout
    assert shown == ["one line", "two\n", "three and four"]
    kept.write("after")
    assert terminal.getvalue() == "after"
    assert sys.stdout is sys.stderr is terminal


def test_handlers_that_were_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """They write above, whatever their logger, and have their stream back afterwards; files keep their lines."""
    terminal, shown = make_terminal(monkeypatch), list[str]()
    old, other = logging.StreamHandler(terminal), io.StringIO()
    file = logging.StreamHandler(other)
    logger = logging.getLogger("someone.else")
    logger.addHandler(old)
    logger.addHandler(file)
    try:
        with written_above(shown.append):
            logger.warning("said")
        assert (shown, other.getvalue(), terminal.getvalue()) == (["said"], "said\n", "")
        assert old.stream is terminal
    finally:
        logger.removeHandler(old)
        logger.removeHandler(file)


def test_a_file_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script prints into a file stays in that file."""
    make_terminal(monkeypatch)
    file, shown = io.StringIO(), list[str]()
    monkeypatch.setattr(sys, "stdout", file)
    with written_above(shown.append):
        print("a result")
        print("a remark", file=sys.stderr)
    assert (file.getvalue(), shown) == ("a result\n", ["a remark"])


def test_our_lines_go_where_standard_error_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler of ours looks it up for each line."""
    log, root = logging.getLogger("tunehook"), logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(log, "handlers", [])
    before = log.level
    try:
        make_visible()
        make_visible()
        for text in ("first", "second"):
            stream = io.StringIO()
            monkeypatch.setattr(sys, "stderr", stream)
            log.warning("%s", text)
            assert stream.getvalue() == f"tunehook: {text}\n"
    finally:
        log.setLevel(before)
