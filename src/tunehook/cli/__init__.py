"""The command line, ``tunehook``."""

from tunehook.cli.commands import main
from tunehook.cli.common import app
from tunehook.cli.doctor import doctor
from tunehook.cli.seeing import dashboard, export, list_studies, report, show, trials

__all__ = ["app", "dashboard", "doctor", "export", "list_studies", "main", "report", "show", "trials"]
