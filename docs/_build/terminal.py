"""Record the first script of README.md in a terminal, two trials at once: ``python terminal.py`` takes some minutes.

The picture is one SVG: all moments of the terminal below each other, and a window that jumps from one to the next.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import struct
import sys
import tempfile
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from xml.sax.saxutils import escape

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
WIDTH, HEIGHT = 78, 20
SECONDS, END = 0.7, 6.0  # for a moment, and for the last one
CODE = re.compile(r"\x1b\[(?P<number>[0-9;?]*)(?P<code>[A-Za-z])|[\r\n]|[^\x1b\r\n]+")
CLOCK = re.compile(r"\b\d+(\.\d+)?( s\b)?|[▁-█]")

SVG = """<svg viewBox="0 0 {width} {shown}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; }}
.film {{ transform: translateY({last}px); animation: film {duration}s step-end infinite; }}
@media (prefers-reduced-motion: reduce) {{ .film {{ animation: none; }} }}
@keyframes film {{ {moves} }}
{styles}
</style>
<defs><clipPath id="window"><rect width="{terminal_width}" height="{window}"/></clipPath></defs>
<rect width="{width}" height="{shown}" rx="8" fill="#292929"/>
<text x="50%" y="26" fill="#c5c8c6" font-family="sans-serif" font-size="18" text-anchor="middle">{title}</text>
<g transform="translate(9, 41)" clip-path="url(#window)"><g class="film">
<g class="{unique_id}-matrix">{matrix}</g>
</g></g>
</svg>
"""


def script() -> str:
    """The first script of README.md, with two trials at once."""
    text = re.search(r"^```python train.py\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert text is not None  # noqa: S101 - this is no part of the package
    return text[1].replace("trials=5", "trials=8, workers=2")


def written(command: list[str]) -> Iterator[str]:
    """What a command writes into a terminal, whenever it has paused."""
    process, terminal = pty.fork()
    if not process:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
        os.execv(command[0], command)  # noqa: S606 - Python itself
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    text = b""
    while True:
        if text and not select.select([terminal], [], [], 0.05)[0]:
            yield text.decode(errors="replace")
            text = b""
        try:
            text += os.read(terminal, 65536)
        except OSError:  # the command has ended
            break
    yield text.decode(errors="replace")
    os.waitpid(process, 0)


def moments(chunks: Iterator[str]) -> Iterator[list[str]]:
    """The lines of the terminal, with their colours, whenever more than a clock has changed."""
    lines, row, shown = [""], 0, ""
    for chunk in chunks:
        for found in CODE.finditer(chunk):
            code = found["code"]
            if code == "A":
                row = max(0, row - int(found["number"] or 1))
            elif code == "K":
                lines[row] = ""
            elif found[0] == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif code == "m" or code is None and found[0] != "\r":
                lines[row] += found[0]
        if (seen := CLOCK.sub("", "\n".join(lines))) != shown and any(lines):
            shown = seen
            yield lines[-HEIGHT:]


def draw(kept: list[list[str]]) -> str:
    """All moments as one picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for lines in kept:
        for line in [*lines, *[""] * (HEIGHT - len(lines))]:
            console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    line, window = 24.4, 24.4 * HEIGHT
    duration = SECONDS * (len(kept) - 1) + END
    moves = " ".join(
        f"{100 * SECONDS * place / duration:.3f}% {{ transform: translateY({-line * HEIGHT * place:.1f}px); }}"
        for place in range(len(kept))
    )
    template = SVG
    for name, value in {
        "shown": f"{window + 58:.0f}", "window": f"{window:.1f}", "last": f"{-line * HEIGHT * (len(kept) - 1):.1f}",
        "duration": f"{duration:.1f}", "moves": moves.replace("{", "{{").replace("}", "}}"), "title": escape("python train.py"),
    }.items():  # fmt: skip
        template = template.replace(f"{{{name}}}", value)
    drawn = console.export_svg(code_format=template, unique_id="terminal").replace("&#160;", "\N{NO-BREAK SPACE}")
    return re.sub(r' clip-path="url\(#terminal-line-\d+\)"|<text [^>]*>\s*</text>', "", drawn)


def main() -> None:
    """Train, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("train.py").write_text(script())
        kept = [list(lines) for lines in moments(written([sys.executable, "-W", "ignore", "train.py"]))]
        os.chdir(ROOT)
    PICTURE.write_text(draw(kept), encoding="utf-8")
    print(f"{len(kept)} moments, {PICTURE.stat().st_size:,} bytes")  # noqa: T201 - for who has asked for it


if __name__ == "__main__":
    main()
