"""Reads the tables of this folder: facts about models, with no weights."""

import csv
from importlib.resources import files


def rows(name: str) -> list[dict[str, str]]:
    """Returns the rows of the table ``name``, each as column -> text."""
    text = files(__package__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
