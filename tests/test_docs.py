"""README.md and docs/*.md stay true: their Python blocks run, the errors they quote are raised, their links lead on.

Run as a script with the name of a document, this file runs the document's blocks in the working directory:

- ``python`` blocks run in order, in one namespace, in which ``Net`` and ``Digits`` are those of the digits example;
- a ``python raises`` block raises, and the ``text`` block behind it is the whole error, as Python prints it;
- a ``yaml`` block with a file name behind the language is written to that file.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted(path.name for path in ROOT.glob("*.md")),
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
]
FENCE = re.compile(r"^```(?P<language>\w*) ?(?P<mark>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: The word behind the fence.
        mark: What stands behind the language.
        text: The block itself.
        line: The line of the document in which its text begins.
    """

    language: str
    mark: str
    text: str
    line: int


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(found["language"], found["mark"].strip(), found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in FENCE.finditer(text)
    ]


def with_following(found: list[Block]) -> list[tuple[Block, Block | None]]:
    """Each block and the one behind it."""
    following = [*found[1:], None] if found else []
    return list(zip(found, following, strict=True))


def run(document: str) -> None:
    """Run the blocks of a document."""
    names: dict[str, Any] = {"__name__": "docs"}
    found = blocks(document)
    if any(block.language == "python" and re.search(r"\bNet\b", block.text) for block in found):
        example = runpy.run_path(str(ROOT / "examples" / "lightning_digits.py"))
        names |= {name: example[name] for name in ("Net", "Digits")}
    for block, following in with_following(found):
        if block.language == "yaml" and block.mark:
            Path(block.mark).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and block.mark == "raises":
            quoted = following.text.strip() if following is not None and following.language == "text" else ""
            said = error_of(document, block, names)
            if said != quoted:
                raise AssertionError(f"{document}, line {block.line}: it quotes\n{quoted}\nbut the code says\n{said}")
        elif block.language == "python":
            execute(document, block, names)


def execute(document: str, block: Block, names: dict[str, Any]) -> None:
    """Run a block; tracebacks show the lines of the document."""
    code = compile("\n" * (block.line - 1) + block.text, str(ROOT / document), "exec")
    exec(code, names)  # noqa: S102 - our own documents


def error_of(document: str, block: Block, names: dict[str, Any]) -> str:
    """What a block raises, as Python prints it, but without the module of the class."""
    try:
        execute(document, block, names)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return f"{type(error).__name__}: {error}"
    return "nothing"


def cases() -> list[Any]:
    """The documents with Python blocks; those that train are slow."""
    found = []
    for document in DOCUMENTS:
        code = "".join(block.text for block in blocks(document) if block.language == "python")
        if code:
            marks = [pytest.mark.slow] if re.search(r"\bNet\b", code) else []
            found.append(pytest.param(document, marks=marks))
    return found


@pytest.mark.parametrize("document", cases())
def test_code_of_a_document_runs(document: str, tmp_path: Path) -> None:
    """Every Python block of the document runs as it stands, and every quoted error is the one that is raised."""
    # Not the service of W&B that a test of this process started, and may have ended.
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    ran = subprocess.run(
        [sys.executable, __file__, document], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_a_document_lead_to_files(document: str) -> None:
    """Every relative link leads to a file, and what stands behind # to one of its headings."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_marks_of_blocks_are_known(document: str) -> None:
    """No block is left out because of a typing error in its mark, and every quoted error has its text."""
    found = blocks(document)
    assert {block.mark for block in found if block.language == "python"} <= {"", "raises"}
    for block, following in with_following(found):
        if block.mark == "raises":
            assert following is not None
            assert following.language == "text"


def test_design_names_every_module() -> None:
    """docs/design.md describes each module of the package."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    modules = [
        path
        for folder in ("src/tunehook", "src/tunehook/launch", "integrations")
        for path in (ROOT / folder).glob("*.py")
    ]
    missing = [path.name for path in modules if path.name != "__init__.py" and f"`{path.name}`" not in text]
    assert not missing, missing


if __name__ == "__main__":
    run(sys.argv[1])
