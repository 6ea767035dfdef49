"""Settings as text: nested groups of fields, renamed fields, the schema, and the way from a method to text and back."""

import random
import struct
import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.run.method import about, parameters
from mothr.benchmark.run.registry import find_method, method_names, settings_from
from mothr.benchmark.run.settings import fields_of, settings_of, with_settings

GROUP_MODULE = '''
from dataclasses import dataclass, field
from typing import ClassVar

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction


@dataclass(frozen=True)
class Tail:
    """The tail of a spectrum."""

    share: float = 0.5
    """Share of the singular values
    in the tail."""
    orders: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Inheritance:
    min_tail_coefficient: float = 0.7
    """Smallest coefficient of a true child, without a unit."""
    tail: Tail = Tail()

    def __post_init__(self):
        if self.min_tail_coefficient < 0:
            raise ValueError("min_tail_coefficient must not be negative")


@dataclass(frozen=True)
class Nested:
    kind: ClassVar[str] = "null"
    renamed: ClassVar[dict[str, str]] = {"related": "relatedness_threshold", "tail_share": "inheritance.tail.share"}

    relatedness_threshold: float = 0.1
    """Cosine above which two models share a tree."""
    inheritance: Inheritance = Inheritance()
    """The test whether a child has its parent's update."""

    def __call__(self, models, rng):
        return Prediction(ModelGraph({node: () for node in models.ids}))
'''
NESTED = "group_methods:Nested"


@pytest.fixture(autouse=True)
def group_methods(tmp_path, monkeypatch):
    """Makes the module of nested methods importable."""
    (tmp_path / "group_methods.py").write_text(GROUP_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("group_methods", None)


# Groups of fields


def test_a_nested_field_is_set_and_recorded():
    method = find_method(NESTED, {"inheritance.min_tail_coefficient": "0.75", "inheritance.tail.orders": "3,4"})
    assert parameters(method) == {
        "relatedness_threshold": 0.1,
        "inheritance": {"min_tail_coefficient": 0.75, "tail": {"share": 0.5, "orders": (3, 4)}},
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("inheritence.tail.share", r"unknown field of group_methods:Nested 'inheritence'; did you mean inheritance\?"),
        ("inheritance.min_tail", r"unknown field of group_methods:Nested.inheritance 'min_tail'; did you mean .*min_tail_coeff"),
        ("inheritance.tail.chare", r"unknown field of group_methods:Nested.inheritance.tail 'chare'; did you mean share\?"),
        ("min_tail_coefficient", r"'min_tail_coefficient'; did you mean inheritance.min_tail_coefficient\?"),
        ("inheritance.tail", r"'inheritance.tail' of group_methods:Nested is a group of fields; set one of them: "
         r"inheritance.tail.share, inheritance.tail.orders"),
        ("relatedness_threshold.low", "'relatedness_threshold' of group_methods:Nested is one value and has no fields"),
        ("inheritance.", "unknown field of group_methods:Nested.inheritance ''"),
        ("", "unknown field of group_methods:Nested ''"),
    ],
)  # fmt: skip
def test_an_unknown_field_is_named_at_its_level(path, message):
    with pytest.raises(MothrError, match=message):
        find_method(NESTED, {path: "1"})


def test_a_group_checks_its_own_fields():
    with pytest.raises(MothrError, match=r"group_methods:Nested.*min_tail_coefficient must not be negative"):
        find_method(NESTED, {"inheritance.min_tail_coefficient": "-1"})
    with pytest.raises(MothrError, match=r"--set inheritance.tail.share=much: the value does not fit float"):
        find_method(NESTED, {"inheritance.tail.share": "much"})


@pytest.mark.parametrize(
    ("old", "new"), [("related", "relatedness_threshold"), ("tail_share", "inheritance.tail.share")]
)
def test_a_renamed_field_gives_one_error_with_its_new_name(old, new):
    with pytest.raises(
        MothrError, match=rf"--set {old}=0.2: the field '{old}' of .*Nested is now '{new}'; set {new}=0.2"
    ):
        find_method(NESTED, {old: "0.2"})


# The kind


def test_a_kind_is_declared_and_absent_means_method():
    assert about(find_method(NESTED), NESTED).kind == "null"
    assert about(lambda models, rng: Prediction(ModelGraph({})), "f").kind == "method"


def test_a_field_called_kind_is_a_parameter():
    @dataclass(frozen=True)
    class Fingerprints:
        kind: str = "fancy"

        def __call__(self, models: Any, rng: Any) -> Prediction:
            return Prediction(ModelGraph({}))

    assert about(Fingerprints(), "f").kind == "method"
    assert about(Fingerprints(), "f").parameters == {"kind": "fancy"}


def test_an_unknown_kind_is_refused():
    @dataclass(frozen=True)
    class Odd:
        kind: ClassVar[str] = "oracles"

        def __call__(self, models: Any, rng: Any) -> Prediction:
            return Prediction(ModelGraph({}))

    with pytest.raises(MothrError, match=r"unknown kind of method 'oracles'; did you mean oracle\?"):
        about(Odd(), "odd")


# The schema


def test_the_schema_has_path_type_default_and_docstring():
    fields = {field.name: (field.type, field.default, field.description) for field in fields_of(find_method(NESTED))}
    assert fields == {
        "relatedness_threshold": ("float", 0.1, "Cosine above which two models share a tree."),
        "inheritance.min_tail_coefficient": ("float", 0.7, "Smallest coefficient of a true child, without a unit."),
        "inheritance.tail.share": ("float", 0.5, "Share of the singular values in the tail."),
        "inheritance.tail.orders": ("tuple[int, ...]", [1, 2], ""),
    }


def test_a_class_without_source_has_fields_without_descriptions():
    names: dict[str, Any] = {}
    exec("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Made:\n    weight: float = 0.5\n", names)
    assert [(field.name, field.description) for field in fields_of(names["Made"]())] == [("weight", "")]
    assert fields_of(lambda models, rng: Prediction(ModelGraph({}))) == []


@pytest.mark.parametrize("name", method_names())
def test_every_field_of_a_registered_method_has_a_docstring(name):
    assert [field.name for field in fields_of(find_method(name)) if not field.description] == []


# From a method to text and back


@dataclass(frozen=True)
class Many:
    """Fields of every type that text can carry."""

    weight: float = 0.5
    count: int = 3
    flag: bool = False
    name: str = "a"
    limit: int | None = None
    share: float | None = 0.5
    layers: tuple[str, ...] = ("a",)
    numbers: tuple[float, ...] = (1.0,)
    either: float | str = 1.0

    def __call__(self, models: Any, rng: Any) -> Prediction:
        return Prediction(ModelGraph({}))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"weight": 0.1 + 0.2}, {"weight": 1e-320}, {"weight": -1.7976931348623157e308}, {"weight": 5.0}, {"weight": -0.0},
        {"count": -(10**15)}, {"flag": True}, {"name": "x,y = [z]"}, {"name": ""}, {"name": "none"},
        {"limit": 4, "share": None}, {"layers": ()}, {"layers": ("re:a,b", "c")}, {"layers": ("none",)}, {"layers": ("",)},
        {"numbers": (0.1, 1 / 3, 1e22)}, {"either": "auto"}, {"either": 2.0},
    ],
)  # fmt: skip
def test_a_method_survives_the_way_through_text(values):
    method = Many(**values)
    settings = settings_of(method, Many(), "many")
    assert settings.keys() == values.keys()
    result = with_settings(Many(), "many", settings)
    assert result == method
    assert repr(result) == repr(method)  # types and signs of zeros, too


def test_every_float_survives_the_way_through_text():
    rng = random.Random(0)
    for _ in range(2000):
        value = struct.unpack("d", rng.randbytes(8))[0]
        if abs(value) < float("inf"):
            [text] = settings_of(Many(weight=value), Many(), "many").values()
            assert with_settings(Many(), "many", {"weight": text}).weight == value


@pytest.mark.parametrize("values", [{"either": "2"}, {"weight": float("nan")}, {"weight": "a"}])
def test_a_value_that_text_cannot_carry_is_refused(values):
    with pytest.raises(MothrError, match="--set"):
        settings_of(Many(**values), Many(), "many")


def test_another_class_is_not_the_registered_method():
    with pytest.raises(MothrError, match="a Many is no 'linea' with other field values"):
        settings_from(Many(), "linea")


def test_a_variant_of_a_registered_method_is_its_name_and_settings():
    method = replace(find_method("mother-v2"), lambda_=1 / 3, direction_combine=None)
    settings = settings_from(method, "mother-v2")
    assert settings == {"lambda_": "0.3333333333333333", "direction_combine": "none"}
    assert find_method("mother-v2", settings) == method
