"""The messages for faults in the file of a user."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mothr.benchmark.faults import faults


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cut(_Strict):
    kind: Literal["cut"]
    share: float = 0.5


class Copy(_Strict):
    kind: Literal["copy"]
    precision: str = "bf16"


class Whole(_Strict):
    name: str
    size: Annotated[int, Field(ge=1)] = 1
    parts: list[Annotated[Cut | Copy, Field(discriminator="kind")]] = []
    named: dict[str, Cut] = {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "a", "size": 0}, ["size: Input should be greater than or equal to 1 (given: 0)"]),
        ({"sise": 1, "name": "a"}, ["sise: unknown field 'sise'; did you mean size?"]),
        ({}, ["field 'name' is missing"]),
        ({"name": "a", "parts": [{"kind": "cut"}, {"kind": "copy", "precison": "int8"}]},
         ["parts.1.copy.precison: unknown field 'precison'; did you mean precision?"]),
        ({"name": "a", "parts": [{"kind": "cut", "precision": "int8"}]},
         ["parts.0.cut.precision: unknown field 'precision'; known: kind, share"]),
        ({"name": "a", "named": {"b": {"kind": "cut", "shar": 1}}}, ["named.b.shar: unknown field 'shar'; did you mean share?"]),
        ({"name": ["x"] * 1000}, ["name: Input should be a valid string"]),
        ({"name": "a", "size": "x" * 1000},
         [f"size: Input should be a valid integer, unable to parse string as an integer (given: '{'x' * 79}...)"]),
        ("a", ["Input should be a valid dictionary or instance of Whole"]),
        ({"name": 1, "size": 0},
         ["name: Input should be a valid string (given: 1)", "size: Input should be greater than or equal to 1 (given: 0)"]),
    ],
)  # fmt: skip
def test_each_message_names_the_field_the_value_and_similar_names(value, expected):
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(value)
    assert list(faults(caught.value, Whole)) == expected
