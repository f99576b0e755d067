"""The command line, ``tunehook``."""

from tunehook.cli.commands import main
from tunehook.cli.common import app
from tunehook.cli.seeing import report

__all__ = ["app", "main", "report"]
