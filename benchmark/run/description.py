"""Descriptions of methods, as ``mothr list methods`` shows them."""

import inspect
from dataclasses import asdict
from typing import Any

from mothr.benchmark.run.method import about
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.run.settings import fields_of


def describe_method(name: str) -> dict[str, Any]:
    """Returns name, kind, needed side information, version, description and the schema of the fields of a method.

    Raises:
        MothrError: there is no such method.
    """
    method = find_method(name)
    declared = about(method, name)
    return {
        "name": name,
        "kind": declared.kind,
        "given": sorted(declared.needs),
        "version": declared.version,
        "description": getattr(method, "description", None) or (inspect.getdoc(method) or "").split("\n")[0],
        "fields": [asdict(field) for field in fields_of(method)],
    }
