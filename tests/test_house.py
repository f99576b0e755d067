"""The house: what imports what, what is loaded when, and what the package holds."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import tunehook
from tunehook import extensions

ROOT = Path(tunehook.__file__).resolve().parents[2]
CORE = ROOT / "src" / "tunehook"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# From the top to the bottom: a room imports those further down only, functions and types included. What stands on one
# line may not import each other either.
FLOORS = [
    {"integrations.lightning", "integrations.keras", "integrations.wandb", "integrations.ray", "integrations.hyperopt"},
    {"__main__"},
    {"cli"},
    {"doctor"},
    {"report", "adapter"},
    {"study"},
    {"launch"},
    {"session"},
    {"storage", "sweep"},
    {"search", "record", "inject", "figures"},
    {"space", "snapshot", "trial"},
    {"extensions", "system"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# What another library calls private is named in these files only, so that a new release of it breaks one file of ours,
# and a test of that file says so. A file that needs it no more is struck.
BORDERS = {
    "wandb": {"integrations.wandb.sdk", "integrations.wandb.service", "extensions"},
    "wandb-workspaces": {"integrations.wandb.workspace"},
    "Lightning": {"integrations.lightning.host", "integrations.lightning.resume", "integrations.wandb.logger"},
    "Keras": {"integrations.keras.host", "integrations.keras.resume"},
    "TensorFlow": {"integrations.keras.host"},
    "Optuna": {"system.optuna", "storage.sqlite", "storage.rows"},
    "torch": {"integrations.lightning.host", "launch.node.child"},
    "Python": {"adapter.script", "inject.call", "launch.node.child"},
}  # fmt: skip
PRIVATE_PACKAGES = ("wandb.sdk", "keras.src")  # by no underscore
PRIVATE_NAMES = {"get_storage", "fixed_params", "failed_trial"}  # as are these of Optuna
# Public, with an underscore, or of no library.
NO_BORDER = {"_thread", "_exit", "_asdict", "_fields", "_make", "_replace", "_no_recorder_has_this"}
FRAMEWORKS = ["torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax", "wandb", "hyperopt", "ray"]
HEAVY = ["optuna", "numpy", "pandas", "sqlalchemy", "rich", "yaml"]


# Where strings may name modules of ours: the table, and the public names.
_TABLES = ("extensions", "")
# Who else imports by a string: doors, and trial processes the module of the user's function.
_MAY_IMPORT = ("system.lazy", "launch.node.function")


class House:
    """The files of a package named tunehook, and what they import from each other.

    Args:
        core: Its folder, with the integrations in it or behind a link.
    """

    def __init__(self, core: Path) -> None:
        files = [*core.rglob("*.py"), *(core / "integrations").rglob("*.py")]
        self.files = {self._name(path.relative_to(core)): path for path in sorted(set(files))}
        self._doors = {name: self._door(name, path) for name, path in self.files.items() if path.stem == "__init__"}

    @staticmethod
    def _name(path: Path) -> str:
        return ".".join(path.with_suffix("").parts).removesuffix("__init__").rstrip(".")

    def package(self, module: str) -> str:
        """The package of a module; of a package, itself."""
        return module if module in self._doors else module.rpartition(".")[0]

    @staticmethod
    def room(module: str) -> str:
        """The room that a module is in: of the integrations, that of its framework."""
        parts = module.split(".")
        return ".".join(parts[:2]) if parts[0] == "integrations" else parts[0]

    def _door(self, package: str, path: Path) -> dict[str, str]:
        """The modules by the names that a package offers."""
        return {name: module for module, name in imported(path) if module.startswith(f"{package}.") or not package}

    def imports(self, module: str) -> Iterator[tuple[str, str, str]]:
        """What a module names (``record``), which of its names, and the module that holds it (``record.journal``)."""
        for named, name in imported(self.files[module]):
            whole = f"{named}.{name}".lstrip(".")
            if whole in self.files:  # a module, by itself
                yield whole, "", whole
            else:
                yield named, name, self._doors.get(named, {}).get(name, named)

    def upwards(self) -> list[str]:
        """The imports that do not point downwards."""
        return [
            f"{module} imports {target}"
            for module in self.files if module and self.room(module) != "integrations"
            for _, _, target in self.imports(module)
            if self.room(target) != self.room(module) and FLOOR[self.room(module)] >= FLOOR[self.room(target)]
        ]  # fmt: skip

    def past_doors(self) -> list[str]:
        """The imports that enter another package past its door, or take what that does not offer."""
        return [
            f"{module} imports {named}.{name}"
            for module in self.files if module
            for named, name, _ in self.imports(module)
            if self.room(named) != self.room(module) and not self._is_door(named, name)
        ]  # fmt: skip

    def _is_door(self, named: str, name: str) -> bool:
        return name in self._doors[named] if named in self._doors else "." not in named  # cli is a room of one file

    def circles(self) -> list[list[str]]:
        """The modules of a room that import each other in a circle."""
        arrows = {
            module: {
                target for _, _, target in self.imports(module)
                if self.room(target) == self.room(module) and target != module
            }
            for module in self.files if module and module not in self._doors
        }  # fmt: skip
        return [[module, *sorted(reached)] for module in arrows if module in (reached := _reached(module, arrows))]

    def by_string(self) -> list[str]:
        """What the core finds by a string, past the table of such strings."""
        return [
            f"{module}: {found}"
            for module, path in self.files.items() if module not in _TABLES and not module.startswith("integrations")
            for found in found_by_string(path, may_import=module in _MAY_IMPORT)
        ]  # fmt: skip

    def past_borders(self) -> list[str]:
        """The files that name something private of another library, and are no border to one."""
        named = {module: list(private_names(path)) for module, path in self.files.items()}
        foreign = {name for names in named.values() for name, is_own in names if not is_own}
        borders = set[str]().union(*BORDERS.values())
        return [
            f"{module} names {name}"
            for module, names in named.items() if module not in borders
            for name, is_own in names if not is_own or name in foreign
        ]  # fmt: skip


def private_names(path: Path) -> Iterator[tuple[str, bool]]:
    """What a file names of others that is private, by any syntax, and whether the file itself defines that name."""
    tree = parsed(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stored = [node for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Store)]
    own |= {node.id for node in stored if isinstance(node, ast.Name)}
    own |= {node.attr for node in stored if isinstance(node, ast.Attribute) and _is_self(node.value)}
    for name in filter(_is_private, _names_of_others(tree)):
        yield name, name in own


def _names_of_others(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value, attr=name) if not _is_self(value):
                yield name
            case ast.Call(
                func=ast.Name("getattr" | "hasattr" | "setattr" | "delattr"), args=[_, ast.Constant(str(name)), *_]
            ):
                yield name
            case ast.Subscript(value=ast.Call(func=ast.Name("vars")), slice=ast.Constant(str(name))):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] != "tunehook":
                yield module
                yield from (name.name for name in names)
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.Constant(str(text)) if text in PRIVATE_NAMES:
                yield text
            case ast.Constant(str(text)) if text.startswith(PRIVATE_PACKAGES) and " " not in text:
                yield text


def _is_self(node: ast.expr) -> bool:
    match node:
        case ast.Name("self" | "cls") | ast.Call(func=ast.Name("super")):
            return True
    return False


def _is_private(name: str) -> bool:
    parts = name.split(".")
    is_hidden = any(part.startswith("_") and not part.startswith("__") and part != "_" for part in parts)
    return (is_hidden and name not in NO_BORDER) or name in PRIVATE_NAMES or name.startswith(PRIVATE_PACKAGES)


def _reached(module: str, arrows: Mapping[str, set[str]]) -> set[str]:
    """All modules that one imports, by others too."""
    found, todo = set[str](), [module]
    while todo:
        for target in arrows.get(todo.pop(), set()) - found:
            found.add(target)
            todo.append(target)
    return found


@functools.cache
def parsed(text: str) -> ast.Module:
    """The syntax tree of a file; copies of the house have most of them in common."""
    return ast.parse(text)


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """The modules of this package that a file imports anywhere, and the names that it takes from them."""
    for node in ast.walk(parsed(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("tunehook."), f"{path}: names are imported from the package"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            if node.module is not None and node.module.partition(".")[0] == "tunehook":
                for alias in node.names:
                    yield node.module.removeprefix("tunehook").lstrip("."), alias.name


def found_by_string(path: Path, *, may_import: bool) -> Iterator[str]:
    """The strings of a file that name modules of ours, and its calls that import by a string."""
    for node in ast.walk(parsed(path.read_text())):
        if isinstance(node, ast.Constant) and re.fullmatch(r"tunehook\.\w[\w.]*(:\w+)?", str(node.value)):
            yield repr(node.value)
        if not may_import and isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__", "import_string"):
                yield ast.unparse(node)


HOUSE = House(CORE)


def test_imports_point_downwards() -> None:
    """A room imports only from lower floors, and every room has its floor."""
    assert {HOUSE.room(module) for module in HOUSE.files} - {"", "integrations"} == set(FLOOR)
    assert HOUSE.upwards() == []


def test_one_enters_by_the_door() -> None:
    """Who imports from another room names that, and a name that it offers."""
    assert HOUSE.past_doors() == []


def test_no_circle_in_a_room() -> None:
    """Modules of one room have an order too."""
    assert HOUSE.circles() == []


def test_what_is_found_by_a_string_stands_in_one_table() -> None:
    """And nowhere else in the core."""
    assert HOUSE.by_string() == []


PLACES = [
    place
    for table in (vars(extensions)[name] for name in vars(extensions) if name.isupper())
    for place in (table.values() if isinstance(table, dict) else table)
]


@pytest.mark.parametrize("place", [place for place in PLACES if place.startswith("tunehook.")])
def test_each_string_of_the_table_resolves(place: str) -> None:
    """The module is there, and holds the name; it is not loaded, since packages may be missing."""
    module, _, name = place.removeprefix("tunehook.").partition(":")
    held = {
        getattr(node, "name", "") or getattr(node, "asname", "")
        for node in ast.walk(parsed(HOUSE.files[module].read_text()))
    }
    assert not name or name in held


def test_what_is_found_by_a_string_is_loaded() -> None:
    """A module, or a name that it holds."""
    assert extensions.load("json").dumps is extensions.load("json:dumps") is json.dumps


def test_private_names_stay_at_the_borders() -> None:
    """Only a border file names what another library calls private, and each of these files has some need of it."""
    assert HOUSE.past_borders() == []
    borders = set[str]().union(*BORDERS.values())
    assert {module for module in borders if not any(private_names(HOUSE.files[module]))} == set()


@pytest.mark.parametrize(
    ("module", "code", "check"),
    [
        ("trial/values.py", "def late():\n    from tunehook.study import Study", "upwards"),
        ("trial/values.py", "if TYPE_CHECKING:\n    from tunehook.study import Study", "upwards"),
        ("space/space.py", "from tunehook.trial import Trial", "upwards"),
        ("integrations/keras/slots.py", "from tunehook.integrations.lightning import TuneCallback", "upwards"),
        ("study/study.py", "from tunehook.record.journal import Journal", "past_doors"),
        ("study/study.py", "from tunehook.record import _hidden", "past_doors"),
        ("record/paths.py", "from tunehook.record.journal import Journal", "circles"),
        ("study/study.py", "PLACE = 'tunehook.integrations.ray:RayLauncher'", "by_string"),
        ("study/study.py", "def late(name):\n    return f'tunehook.integrations.{name}'", "by_string"),
        ("study/study.py", "import importlib\nimportlib.import_module('wandb')", "by_string"),
        ("integrations/wandb/recorder.py", "def late(run):\n    return run._settings", "past_borders"),
        ("integrations/wandb/users.py", "def late(run):\n    return getattr(run, '_init_pid', 0)", "past_borders"),
        ("integrations/wandb/own.py", "def late(run):\n    return vars(run)['_anything']", "past_borders"),
        ("integrations/wandb/own.py", "def late():\n    from wandb.sdk import wandb_setup", "past_borders"),
        ("integrations/wandb/own.py", "import wandb.sdk.wandb_setup", "past_borders"),
        ("trial/values.py", "late = 'wandb.sdk.lib.module'", "past_borders"),
        ("study/results.py", "from optuna.study._frozen import FrozenStudy", "past_borders"),
        ("study/results.py", "storage = study.optuna._storage", "past_borders"),
        ("study/results.py", "print(frozen._trial_id)", "past_borders"),
        ("study/results.py", "given = frozen.system_attrs.get('fixed_params')", "past_borders"),
        ("search/grid.py", "inner = getattr(storage, '_backend', storage)", "past_borders"),
        ("search/grid.py", "import optuna.storages._rdb.models", "past_borders"),
        ("search/grid.py", "from optuna.storages import get_storage", "past_borders"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, module: str, code: str, check: str) -> None:
    """A wrong import that is planted in a copy of the house."""
    shutil.copytree(CORE, tmp_path / "tunehook", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "tunehook" / module).open("a") as file:
        file.write(f"\n{code}\n")
    assert getattr(House(tmp_path / "tunehook"), check)()


def core_files() -> list[Path]:
    """Every file of the core, the integrations left out."""
    return [path for path in sorted(CORE.rglob("*.py")) if "integrations" not in path.relative_to(CORE).parts]


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_framework(path: Path) -> None:
    """Neither the integrations nor a framework are imported anywhere in the core, functions included."""
    for node in ast.walk(parsed(path.read_text())):
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


@pytest.mark.parametrize("module", ["", ".apart", ".agent", ".journal"])
def test_runs_are_kept_apart_without_the_sdk(module: str) -> None:
    """What also serves trainings without a recorder looks only at a W&B that they have loaded, of any version."""
    assert "wandb" not in loaded(f"import tunehook.integrations.wandb{module}")


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
    """The adapters' modules."""
    return [name for name in HOUSE.files if name.startswith("integrations.")]


# Each import in a fork of its own, of a process that has imported what takes long.
IMPORT_EACH = """
import gc, importlib, json, os, sys
for other in ("torch", "lightning", "keras", "wandb.sdk.launch._launch", "ray", "optuna", "scipy.stats", "rich.table"):
    importlib.import_module(other)
gc.freeze()
for name in sys.argv[1:]:
    if os.fork() == 0:
        module = importlib.import_module(f"tunehook.{name}")
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
    assert found == {name: HOUSE.files[name].resolve() for name in integration_files()}, done.stderr
    assert all(file.is_relative_to(ROOT / "integrations") for file in found.values())


def test_integrations_are_behind_one_link() -> None:
    """They have a folder of their own beside the core's; the link serves type checkers."""
    assert (CORE / "integrations").is_symlink()
    assert (CORE / "integrations").readlink() == Path("../../integrations")


def test_the_package_lists_every_folder() -> None:
    """A folder that is not named in pyproject.toml would be missing from the wheel."""
    names = {f"tunehook.{HOUSE.package(module)}".rstrip(".") for module in HOUSE.files}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(names)
    for name in listed:
        assert importlib.util.find_spec(name) is not None


def test_one_version() -> None:
    """The package says the version of pyproject.toml."""
    assert tunehook.__version__ == PROJECT["project"]["version"]


def test_the_extra_all_holds_every_other_one() -> None:
    """But for that of the tests, which holds it, and that of the site."""
    extras = PROJECT["project"]["optional-dependencies"]
    (every,) = extras["all"]
    held = every.removeprefix("tunehook[").removesuffix("]").split(",")
    assert sorted(held) == sorted(extras.keys() - {"all", "docs", "test"})


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
