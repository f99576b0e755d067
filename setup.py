"""The long description of the package: the README, as an index page can show it.

Everything else is in pyproject.toml.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def index_page(text: str, source: str | None) -> str:
    """The README for a page that has no files beside it.

    Args:
        text: The README.
        source: The address below which the project's files are, ``None`` where it has none: links to files become the
            files' names, which the source distribution has.
    """

    def named(link: re.Match[str]) -> str:
        shown, target = link["shown"], link["target"]
        if "://" in target or target.startswith("#"):
            return link[0]
        if source is not None:
            return f"[{shown}]({source.rstrip('/')}/{target})"
        file = target.partition("#")[0]
        return f"`{file}`" if shown == file else f"{shown} (`{file}`)"

    return re.sub(r"\[(?P<shown>[^\]\n]+)\]\((?P<target>[^)\s]+)\)", named, text)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=index_page(readme, project.get("urls", {}).get("Files")),
        long_description_content_type="text/markdown",
    )
