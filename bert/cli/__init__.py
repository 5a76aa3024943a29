"""The command line: verbs, help from the dataclasses' docstrings, closest names, exit codes."""

from bert.cli.arguments import put
from bert.cli.main import Verb, main
from bert.cli.parser import read_options

__all__ = ["Verb", "main", "put", "read_options"]
