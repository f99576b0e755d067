"""The house: what imports what, what is loaded when, and what the package holds."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tunehook

ROOT = Path(tunehook.__file__).resolve().parents[2]
CORE = ROOT / "src" / "tunehook"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# From the top to the bottom: a module imports those further down only. What stands on one line may not import each
# other either.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"report", "status"},
    {"launch"},
    {"objective", "reading"},
    {"source"},
    {"study"},
    {"results"},
    {"optuna_trial", "opening"},
    {"active"},
    {"session"},
    {"ends", "going_on"},
    {"progress", "importance"},
    {"patient", "holder"},
    {"pulse", "database"},
    {"sqlite", "checkpoint"},
    {"record"},
    {"stored"},
    {"snapshot_plan"},
    {"snapshot_take"},
    {"snapshot_arrays", "snapshot_exact", "snapshot_merge"},
    {"snapshot_moments", "snapshot_torch"},
    {"snapshot_look"},
    {"snapshot", "snapshot_schedule"},
    {"inject"},
    {"seeding"},
    {"search"},
    {"grid", "guard"},
    {"sweep"},
    {"space"},
    {"distributions"},
    {"apart", "known"},
    {"trial"},
    {"foreign", "imports", "notice", "patches", "paths", "randomness", "storage", "table", "terminal"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FRAMEWORKS = ["torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax", "wandb", "hyperopt", "ray"]
HEAVY = ["optuna", "numpy", "pandas", "sqlalchemy", "rich", "yaml"]


def imported(path: Path) -> set[str]:
    """The modules that a file imports when it is itself imported."""
    found: set[str] = set()
    todo: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            assert node.module is not None
            found.update(
                f"{node.module}.{alias.name}" if node.module == "tunehook" else node.module for alias in node.names
            )
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))
    return found


def core_files() -> list[Path]:
    """Every file of the core, the integrations left out."""
    return [path for path in sorted(CORE.rglob("*.py")) if "integrations" not in path.relative_to(CORE).parts]


def room(path: Path) -> str:
    """The name of a file's room in the house: the module, or the folder that it lies in."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_imports_point_downwards(path: Path) -> None:
    """A module imports only from lower floors, and every module has its floor."""
    here = room(path)
    for module in imported(path):
        if not module.startswith("tunehook."):
            continue
        there = module.split(".")[1]
        assert here in ("__init__", there) or FLOOR[here] < FLOOR[there], f"{here} imports {there}"
    assert here == "__init__" or here in FLOOR


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_framework(path: Path) -> None:
    """Neither the integrations nor a framework are imported anywhere in the core, functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            assert name.split(".")[0] not in FRAMEWORKS
            assert not name.startswith("tunehook.integrations")


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after some code."""
    code += "\nimport sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "module", ["tunehook", "tunehook.study", "tunehook.session", "tunehook.space", "tunehook.record"]
)
def test_importing_is_cheap(module: str) -> None:
    """No framework, and nothing heavy."""
    assert not loaded(f"import {module}") & {*FRAMEWORKS, *HEAVY}


def test_optuna_is_loaded_when_it_is_needed() -> None:
    """Every public name, a space and a study with its checks need no Optuna; asking does, and still no framework."""
    names = "import tunehook as th\nfor name in th.__all__: getattr(th, name)\n"
    made = (
        "study = th.Study('s', {'x': th.Float(0, 1), 'n': th.Choice([1, 2])}, metric='m', mode='min', search='random',"
        " stopper='median')\n"
    )
    assert not loaded(names + made) & {*FRAMEWORKS, *HEAVY}
    asked = loaded(names + made + "study.ask()")
    assert "optuna" in asked
    assert not asked & set(FRAMEWORKS)


def test_the_public_names() -> None:
    """Every name of __all__ resolves, is listed, and comes from where it is said; others are errors."""
    for name in tunehook.__all__:
        assert getattr(tunehook, name) is not None
        assert name in dir(tunehook)
    assert {"Study", "Float", "Int", "Choice", "Space", "TrialSession", "Journal"} <= set(tunehook.__all__)
    with pytest.raises(AttributeError, match="module 'tunehook' has no attribute 'Stduy'"):
        tunehook.Stduy  # noqa: B018 - raises


def test_the_names_for_type_checkers_are_the_public_ones() -> None:
    """What a type checker sees and what is loaded are one list."""
    tree = ast.parse((CORE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module.removeprefix("tunehook.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    assert seen == tunehook._HOMES


def integration_files() -> list[str]:
    """The names of the adapters' modules."""
    return sorted(path.stem for path in (ROOT / "integrations").glob("*.py") if path.stem != "__init__")


# Each import in a fork of its own, of a process that has imported what takes long.
IMPORT_EACH = """
import importlib, json, os, sys
for framework in ("torch", "lightning", "keras", "wandb", "ray"):
    importlib.import_module(framework)
for name in sys.argv[1:]:
    if os.fork() == 0:
        module = importlib.import_module(f"tunehook.integrations.{name}")
        print(json.dumps([name, module.__file__]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.slow
def test_integrations_import_under_the_name_of_the_package() -> None:
    """Each as the first one of a process, from the folder beside the core."""
    command = [sys.executable, "-c", IMPORT_EACH, *integration_files()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {name: Path(file).resolve() for name, file in map(json.loads, done.stdout.splitlines())}
    assert found == {name: ROOT / "integrations" / f"{name}.py" for name in integration_files()}, done.stderr


def test_integrations_lie_flat_behind_one_link() -> None:
    """A folder below would be missing from the wheel; the link serves type checkers."""
    assert not [path for path in (ROOT / "integrations").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert (CORE / "integrations").is_symlink()
    assert (CORE / "integrations").readlink() == Path("../../integrations")


def test_the_package_lists_every_folder() -> None:
    """A folder that is not named in pyproject.toml would be missing from the wheel."""
    folders = {path.parent for path in CORE.rglob("*.py")} | {CORE / "integrations"}
    names = {".".join(("tunehook", *folder.relative_to(CORE).parts)) for folder in folders}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(names)
    for name in listed:
        assert importlib.util.find_spec(name) is not None


def test_one_version() -> None:
    """The package says the version of pyproject.toml."""
    assert tunehook.__version__ == PROJECT["project"]["version"]


def test_the_extra_all_holds_every_other_one() -> None:
    """But for that of the tests, which holds it."""
    extras = PROJECT["project"]["optional-dependencies"]
    (every,) = extras["all"]
    held = every.removeprefix("tunehook[").removesuffix("]").split(",")
    assert sorted(held) == sorted(extras.keys() - {"all", "test"})


README = ROOT / "README.md"
# The address of a file, in a link; what begins with # stays on the page.
LINK = r"\]\((?!https?://|#)([^)\s]+)\)"


def test_links_of_an_index_page_are_absolute() -> None:
    """Where the project has an address, files of the README are below it."""
    index_page = runpy.run_path(str(ROOT / "setup.py"))["index_page"]
    page = index_page(README.read_text(), "https://example.org/files/")
    assert not re.findall(LINK, page)
    assert page.count("](https://example.org/files/") == len(re.findall(LINK, README.read_text())) > 10
    assert index_page("a [b](c.md#d) [e](#e) [f](https://g)", None) == "a b (`c.md`) [e](#e) [f](https://g)"


@pytest.mark.slow
def test_the_page_of_the_package_has_no_dead_link(tmp_path: Path) -> None:
    """What an index shows of the package is the README, without a link to a file that is not there."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("src", "integrations"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    code = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    page = (tmp_path / done.stdout.split()[-1] / "METADATA").read_text()
    assert "Description-Content-Type: text/markdown" in page
    assert page.partition("\n\n")[2].startswith("# tunehook\n")
    assert not re.findall(LINK, page)
