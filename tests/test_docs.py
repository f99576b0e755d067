"""README.md and the pages in docs/ stay true: code and commands run, errors that they quote are raised, links lead on.

Run as a script with the name of a document, this file runs the document's Python blocks in the working directory:

- a block marked with the name of a file is a whole script, which brings all that it needs;
- other ``python`` blocks run in order, in one namespace: that of the document's first script, else one in which ``Net``
  and ``Digits`` are those of the digits example;
- a ``python raises`` block raises, and the ``text`` block behind it is the whole error, as Python prints it;
- a ``yaml`` block with a file name behind the language is written to that file;
- a block that only names a file of the project, which the site shows in its place, is run by the tests of the examples.

A ``python end`` block stands in place of the last lines of the script that the page speaks of. Commands are lines of
``sh`` blocks.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tunehook
import wandb_server
from postgres import serving
from tunehook.cli import app
from tunehook.study.study import Study
from waiting import PATIENCE
from warm import python

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted(path.name for path in ROOT.glob("*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md") if path.name != "index.md"),
]
README = "README.md"  # whose scripts and commands run as a stranger types them
OTHERS = [document for document in DOCUMENTS if document != README]
# A block, which is indented within a tab.
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*) ?(?P<mark>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
INCLUDED = re.compile(r' *--8<-- "(?P<file>[^"]+)"$', re.MULTILINE)

# What is not run here, by a part of it, and why.
NOT_RUN = {
    "pip install": "it needs the package index, and minutes",
    "make ": "it sets up an environment of its own, and runs this test",
    "TUNEHOOK_LAUNCHER=ray": "tests/integrations/ray/test_ray.py runs a script so, on a cluster",
    "RayLauncher(num_cpus=4, num_gpus=1": "it asks for a GPU; tests/integrations/ray/test_ray.py runs it without",
    "from ray import tune": "Ray Tune needs more than Ray, which is not installed for the tests",
    "past_trials(": "it asks W&B; tests/integrations/wandb/test_past.py asks a stand-in",
    "tunehook dashboard": "it does not return; tests/report/test_dashboard.py looks at one in a browser",
    "run_grpc_proxy_server": "it does not return; tests/launch/test_machines.py runs a study through such a proxy",
}
# The database of the documents.
DATABASE = "postgresql://me:password@db/tune"


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: The word behind the fence.
        mark: What stands behind the language.
        text: The block itself.
        line: The line of the document in which its text begins.
        is_included: Whether the text is that of a file of the project, of which the document has only the name.
    """

    language: str
    mark: str
    text: str
    line: int
    is_included: bool = False


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    made = []
    for found in FENCE.finditer(text):
        own, included = textwrap.dedent(found["text"]), INCLUDED.match(found["text"])
        if included:
            own = (ROOT / included["file"]).read_text(encoding="utf-8")
        line = text.count("\n", 0, found.start("text")) + 1
        made.append(Block(found["language"], found["mark"].strip(), own, line, included is not None))
    return made


def with_following(found: list[Block]) -> list[tuple[Block, Block | None]]:
    """Each block and the one behind it."""
    following = [*found[1:], None] if found else []
    return list(zip(found, following, strict=True))


def run(document: str) -> None:
    """Run the blocks of a document."""
    names: dict[str, Any] = {}
    found = blocks(document)
    if not any(is_script(block) for block in found) and any(re.search(r"\bNet\b", block.text) for block in found):
        example = runpy.run_path(str(ROOT / "examples" / "lightning_digits.py"))
        names = {name: example[name] for name in ("Net", "Digits")}
    for block, following in with_following(found):
        if block.is_included:
            continue
        if block.language == "yaml" and block.mark:
            Path(block.mark).write_text(block.text, encoding="utf-8")
        elif is_script(block):
            alone: dict[str, Any] = {"__name__": "__main__"}
            execute(document, block, alone)
            names = names or alone
        elif block.language != "python" or block.mark == "end" or reason_not_to_run(block.text):
            continue
        elif block.mark == "raises":
            quoted = following.text.strip() if following is not None and following.language == "text" else ""
            said = error_of(document, block, names)
            if said != quoted:
                raise AssertionError(f"{document}, line {block.line}: it quotes\n{quoted}\nbut the code says\n{said}")
        else:
            execute(document, block, names)


def is_script(block: Block) -> bool:
    """Whether a block is a whole script."""
    return block.language == "python" and block.mark.endswith(".py")


def reason_not_to_run(text: str) -> str:
    """Why something is not run here, an empty text where it is."""
    return next((reason for part, reason in NOT_RUN.items() if part in text), "")


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
    for document in OTHERS:
        own = [block for block in blocks(document) if block.language == "python" and not block.is_included]
        code = "".join(block.text for block in own if block.mark != "end")
        is_slow = re.search(r"\bNet\b|\bfit\(", code) is not None
        if code and not all(reason_not_to_run(block.text) for block in own):
            found.append(pytest.param(document, marks=[pytest.mark.slow] if is_slow else []))
    return found


@pytest.mark.parametrize("document", cases())
def test_code_of_a_document_runs(document: str, tmp_path: Path) -> None:
    """Every Python block of the document runs as it stands, and every quoted error is the one that is raised."""
    ran = subprocess.run(
        [python(), __file__, document], cwd=tmp_path, env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]


# ------------------------------------------------------------------ scripts and commands

# A script that trains nothing, for commands that are about processes.
LIGHT = """
import tunehook as th
from tunehook.session import active


def train():
    session = active()
    session.ready()
    session.report(1, {"val_acc": session.trial.params["lr"]})


study = th.Study("digits", {"lr": th.Float(1e-4, 1e-1, log=True)}, metric="val_acc", mode="max", search="random")

if __name__ == "__main__":
    study.optimize(train, trials=4, progress=False)
"""

# What a cluster has of SLURM: an array job of which two tasks run, and the ranks of srun, with SLURM's variables.
SLURM = """#!{python}
import os, re, subprocess, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "srun":
    count = int(re.search(r"--ntasks=([0-9]+)", arguments[0])[1])
    command, tasks = arguments[1:], [dict(PROCID=n, LOCALID=n, NTASKS=count) for n in range(count)]
else:
    assert name == "sbatch", name
    file = arguments[-1]
    wraps = "--wrap" in arguments
    is_array = any(one.startswith("--array=") for one in arguments)
    is_array = is_array or not wraps and "#SBATCH --array=" in open(file).read()
    command = ["bash", "-ec", file] if wraps else ["bash", "-e", file]
    tasks = [dict(ARRAY_TASK_ID=n, ARRAY_JOB_ID=7, JOB_ID=7 + n, JOB_NAME="wrap", PROCID=0, LOCALID=0, NODEID=0,
                  NTASKS=1, JOB_NODELIST="localhost") for n in range(2 if is_array else 1)]
started = [subprocess.Popen(command, env=os.environ | {{"SLURM_" + key: str(value) for key, value in task.items()}})
           for task in tasks]
sys.exit(max(process.wait() for process in started))
"""


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process, without W&B's service of a test of this process, which may have ended."""
    return {**{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}, **variables}


def script(document: str) -> str:
    """The script that a document speaks of: its own, as a reader pastes it, or the first page's, or a quick one."""
    found = blocks(document)
    own = next((block.text for block in found if is_script(block)), None)
    if own is None and any("Net()" in block.text for block in found if block.mark == "end"):
        return script("docs/start/lightning.md")
    return own or LIGHT


def sh_blocks() -> list[Any]:
    """The blocks of commands with anything in them to run, other than looking at a study."""
    return [
        pytest.param(document, block, id=f"{document}:{block.line}")
        for document in OTHERS
        for block in blocks(document)
        if block.language == "sh" and any(not line.startswith("tunehook ") for line in lines_to_run(block))
    ]


def lines_to_run(block: Block) -> list[str]:
    """The commands of a block."""
    lines = [line for line in block.text.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not reason_not_to_run(line)]


def commands() -> list[str]:
    """Each ``tunehook`` command of the documents, in blocks and, with its arguments, in sentences."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.language == "sh" and document != README:
                found.update(dict.fromkeys(line for line in lines_to_run(block) if line.startswith("tunehook ")))
        text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
        found.update(dict.fromkeys(re.findall(r"`(tunehook [^`]*digits[^`]*|tunehook sync)`", text)))
    return [command for command in found if not reason_not_to_run(command)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "block"),
    [
        pytest.param(document, block, id=f"{document}:{block.line}")
        for document in DOCUMENTS
        for block in blocks(document)
        if block.mark == "end"
    ],
)
def test_another_end_of_the_script_runs(document: str, block: Block, tmp_path: Path) -> None:
    """The script with these last lines trains as many trials as it says, but here three; one where it says none."""
    text = script(document)
    text = text[: text.index("if __name__")] + re.sub(r"trials=\d+", "trials=3", block.text)
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [python(), "train.py"], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert Study.open("digits").counts()["complete"] == (3 if "trials=" in block.text else 1)


@pytest.mark.slow
def test_a_strangers_first_run(tmp_path: Path) -> None:
    """The README's commands, in order, tune its two scripts and write their reports; then its other code runs too.

    Packages are there already. Once more the scripts train nothing, since their studies have all trials.
    """
    for block in blocks(README):
        if is_script(block):
            (tmp_path / block.mark).write_text(block.text, encoding="utf-8")
    programs = {
        "pip": "exit 0",
        "python": f'"{sys.executable}" "$@"',
        "tunehook": f'"{sys.executable}" -m tunehook "$@"',
    }
    for name, start in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{start}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    commands = "".join(block.text for block in blocks(README) if block.language == "sh")
    (tmp_path / "commands.sh").write_text(commands, encoding="utf-8")
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    for command in (["bash", "-e", "commands.sh"], [sys.executable, __file__, README]):
        ran = subprocess.run(
            command, env=environment(**path), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-4000:]
        for study, trials in {"digits": 5, "keras-digits": 3}.items():
            assert Study.open(study).counts() == {"complete": trials}
            assert (tmp_path / f"{study}.html").stat().st_size > 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize(("document", "block"), sh_blocks())
def test_commands_of_a_block_run(document: str, block: Block, tmp_path: Path) -> None:
    """The commands start processes that share one study in one database, under SLURM's variables where it says so."""
    assert DATABASE in block.text
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text(SLURM.format(python=python()), encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    # A link to it would leave the packages of its virtual environment behind.
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{python()}" "$@"\n', encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "train.py").write_text(script(document), encoding="utf-8")
    with serving() as server:
        text = block.text.replace(DATABASE, f"'{server.get_uri()}'")
        kept = [line for line in text.splitlines() if line.startswith("#") or not reason_not_to_run(line)]
        (tmp_path / "job.sh").write_text("\n".join(kept), encoding="utf-8")
        start = ["sbatch", "job.sh"] if "#SBATCH" in text else ["bash", "-e", "job.sh"]
        ran = subprocess.run(
            start, env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-4000:]
        study = Study.open("digits", storage=server.get_uri())
        assert f"trials={study.counts()['complete']}" in script(document)
        study._ledger.kept._backend._backend.engine.dispose()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the study of the documents, recorded offline on W&B, and a stand-in for W&B's server."""
    folder = tmp_path_factory.mktemp("looked-at")
    with contextlib.chdir(folder):
        subprocess.run([python(), "-c", RECORDED], env=environment(), check=True, capture_output=True, timeout=PATIENCE)
    with wandb_server.serving() as server, wandb_server.online(server, folder):
        yield folder


RECORDED = LIGHT.replace(
    'search="random")', 'search="random", recorders=[WandbRecorder("digits", mode="offline", lean=True)])'
).replace("import tunehook as th\n", "import tunehook as th\nfrom tunehook.integrations.wandb import WandbRecorder\n")


@pytest.mark.filterwarnings("ignore")  # of wandb-workspaces: what pydantic will drop
@pytest.mark.parametrize("command", commands())
def test_a_command_looks_at_the_study(command: str, looked_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the documents does what it is for, where the study of the documents is."""
    monkeypatch.chdir(looked_at)
    monkeypatch.setenv("WANDB_MODE", "online")
    done = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
    assert done.exit_code == 0, done.output
    assert done.output


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_stand_where_they_are_run(document: str) -> None:
    """A command in a block of another kind, or an indented one, would be run by nobody."""
    text = (ROOT / document).read_text(encoding="utf-8")
    others = [block.text for block in blocks(document) if block.language == "text"]
    indented = re.findall(r"^ {4}.+$", FENCE.sub("", text), re.MULTILINE)
    names = "pip|make|python|tunehook|wandb|ray|srun|sbatch|export"
    for line in "\n".join([*others, *indented]).splitlines():
        assert not re.match(rf"\s*([A-Z_]+=\S+ )?({names})\s", line), line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_extras_and_targets_exist(document: str) -> None:
    """What is not run names only extras and targets that there are."""
    text = (ROOT / document).read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {name for names in re.findall(r"'tunehook\[([\w,-]+)\]'", text) for name in names.split(",")}
    assert asked <= extras.keys()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)) <= set(targets)


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
    marks = {block.mark for block in found if block.language == "python" and not is_script(block)}
    assert marks <= {"", "raises", "end"}
    assert {block.language for block in found} <= {"python", "text", "sh", "yaml"}
    for block, following in with_following(found):
        if block.mark == "raises":
            assert following is not None
            assert following.language == "text"


def test_the_readme_is_short() -> None:
    """Who wants to know more reads on."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    """Without a warning: each link leads to a page and its heading, each public name has its docstring."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment(NO_MKDOCS_2_WARNING="1"))
    assert ran.returncode == 0, ran.stderr
    first = (tmp_path / "index.html").read_text()
    assert "Hyperparameter tuning as a callback." in first
    assert 'href="start/lightning/"' in first
    names = (tmp_path / "reference" / "api" / "index.html").read_text()
    public = {name for name in tunehook.__all__ if not name.startswith("_")}
    public |= {f"Study.{name}" for name in dir(tunehook.Study) if not name.startswith("_")}
    for door in sorted((ROOT / "integrations").glob("*/__init__.py")):
        (listed,) = re.findall(r"^__all__ = \[(.*)\]", door.read_text(), re.MULTILINE)
        public |= {f"integrations.{door.parent.name}.{name}" for name in re.findall(r'"(\w+)"', listed)}
    assert {name for name in public if f'id="tunehook.{name}"' not in names} == set()
    commands_page = (tmp_path / "reference" / "command-line" / "index.html").read_text()
    assert "tunehook wandb workspace" in commands_page
    assert "search/search_index.json" in {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}


def test_messages_of_the_questions_are_ours() -> None:
    """Each heading below *Messages* is a part of a message, or of a line, that the program says."""
    text = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8").partition("## Messages")[2].partition("\n## ")[0]
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")]
    said = re.sub(r'"\s+f?"', "", "".join(source.read_text(encoding="utf-8") for source in sources))
    assert [part for part in re.findall("^### (.+)$", text, re.MULTILINE) if part not in said] == []


def test_each_file_of_a_study_is_described() -> None:
    """What has a name below a study's folder has a line in docs/reference/files.md."""
    paths = (ROOT / "src" / "tunehook" / "record" / "paths.py").read_text(encoding="utf-8")
    names = re.findall(r'(?:folder|parent|\)) / f?"([\w.-]+)', paths)
    assert {"study.db", "study.json", "trial-", "journal.jsonl", "checkpoints"} <= set(names)
    text = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    assert [name for name in names if name not in text] == []


def test_each_example_is_on_a_page() -> None:
    """Whoever reads the documents finds all files of the examples."""
    pages = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    kinds = ("*.py", "*.ipynb", "*/*.py", "*/*.sh")
    files = [path.relative_to(ROOT) for kind in kinds for path in (ROOT / "examples").glob(kind)]
    assert len(files) > 10
    assert [str(file) for file in files if str(file) not in pages] == []


def test_design_shows_every_room() -> None:
    """The tree in docs/design.md has each folder of the package and of the integrations, and no other one."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    tree = text.partition("    src/tunehook/\n")[2].partition("    tests/")[0]
    shown = {line.split()[0] for line in tree.splitlines() if line.startswith("      ")}
    shown |= set(re.findall(r"\w+/", tree.rpartition("\n      ")[2]))
    rooms = [path for folder in ("src/tunehook", "integrations") for path in (ROOT / folder).glob("*/__init__.py")]
    assert {path.parent.name + "/" for path in rooms} - {"integrations/"} == shown - {"extensions.py"}


if __name__ == "__main__":
    run(sys.argv[1])
