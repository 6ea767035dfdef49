"""How a method is found and configured."""

import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.method import needs, parameters
from mothr.benchmark.run.registry import find_method, method_names

SOURCE = """
from dataclasses import dataclass
from typing import ClassVar, Literal

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction


@dataclass(frozen=True)
class Base:
    version: ClassVar[str] = "1"
    weight: float = 0.5

    def __post_init__(self):
        if self.weight < 0:
            raise ValueError("weight must not be negative")

    def __call__(self, models, rng):
        return Prediction(ModelGraph({node: () for node in models.ids}))


@dataclass(frozen=True)
class Own(Base):
    count: int = 3
    flag: bool = False
    kind: Literal["plain", "fancy"] = "plain"
    maybe: Literal["plain", "fancy"] | None = None
    limit: int | None = None
    name: str = "name"
    layers: tuple[str, ...] = ("a",)
    either: float | str = 1.0


@dataclass(frozen=True)
class Demanding:
    weight: float

    def __call__(self, models, rng):
        return None


def function(models, rng):
    return Prediction(ModelGraph({node: () for node in models.ids}))


INSTANCE = Own(count=7)
NUMBER = 5
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Returns the name of an importable module of methods."""
    (tmp_path / "own_methods.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_methods"
    sys.modules.pop("own_methods", None)


# Finding


def test_every_registered_method_is_found():
    assert "mother-v2" in method_names()
    assert "null-star" in method_names()
    for name in method_names():
        method = find_method(name)
        assert callable(method)
        assert method.version
        assert needs(method) <= {"tree_count", "metadata", "truth"}


def test_a_class_an_instance_and_a_function_are_methods(own):
    assert parameters(find_method(f"{own}:Own"))["count"] == 3
    assert parameters(find_method(f"{own}:INSTANCE"))["count"] == 7
    assert parameters(find_method(f"{own}:function")) == {}
    assert needs(find_method(f"{own}:function")) == frozenset()


def test_a_near_name_is_suggested():
    with pytest.raises(MothrError, match=r"unknown method 'mother-v3'; did you mean .*mother-v2"):
        find_method("mother-v3")
    with pytest.raises(MothrError, match=r"unknown method 'qqqq'; known: .*null-star"):
        find_method("qqqq")


@pytest.mark.parametrize("name", ["no_such_module:X", "own_methods:Missing", ":Own", ".relative:Own", "own_methods:"])
def test_what_cannot_be_imported_says_so(own, name):
    with pytest.raises(MothrError, match="cannot be imported"):
        find_method(name)


def test_what_is_no_method_says_so(own):
    with pytest.raises(MothrError, match="is a int, which cannot be called"):
        find_method(f"{own}:NUMBER")
    with pytest.raises(MothrError, match=r"cannot be made without arguments.*give each field a default"):
        find_method(f"{own}:Demanding")


# Setting


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("weight", "0.25", 0.25),  # an inherited field
        ("weight", "1", 1.0),
        ("count", "12", 12),
        ("flag", "true", True),
        ("flag", "False", False),
        ("kind", "fancy", "fancy"),
        ("maybe", "fancy", "fancy"),
        ("maybe", "none", None),
        ("limit", "4", 4),
        ("limit", "None", None),
        ("name", "none", "none"),
        ("name", "a,b", "a,b"),
        ("layers", "a,b", ("a", "b")),
        ("layers", "a", ("a",)),
        ("either", "2", 2.0),
        ("either", "auto", "auto"),
    ],
)
def test_settings_are_converted(own, field, text, value):
    result = parameters(find_method(f"{own}:Own", {field: text}))
    assert result[field] == value
    assert type(result[field]) is type(value)
    assert find_method(f"{own}:INSTANCE", {field: text}).count == (12 if field == "count" else 7)  # the rest stays


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("count", "many", "--set count=many: the value does not fit int"),
        ("count", "1.5", "--set count=1.5"),
        ("flag", "perhaps", "--set flag=perhaps: the value does not fit bool"),
        ("kind", "fancier", "--set kind=fancier: the value does not fit"),
        ("maybe", "fancier", "--set maybe=fancier"),
        ("weight", "none", "--set weight=none"),
        ("weight", "nan", "--set weight=nan: the value must be finite"),
        ("weight", "-1", "weight must not be negative"),
        ("wieght", "1", r"unknown field of own_methods:Own 'wieght'; did you mean weight\?"),
        ("version", "2", "unknown field of own_methods:Own 'version'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(own, field, text, message):
    with pytest.raises(MothrError, match=message):
        find_method(f"{own}:Own", {field: text})


def test_only_dataclasses_take_settings(own):
    with pytest.raises(MothrError, match="has no fields to set"):
        find_method(f"{own}:function", {"a": "1"})


def test_a_setting_of_a_registered_method_is_recorded():
    assert parameters(find_method("mother-v2", {"lambda_": "0.7"}))["lambda_"] == 0.7
    assert parameters(find_method("mother-v2"))["lambda_"] != 0.7


def test_an_unknown_need_is_refused():
    @dataclass(frozen=True)
    class Greedy:
        needs: ClassVar[frozenset[str]] = frozenset({"truths"})

        def __call__(self, models, rng):
            return None

    with pytest.raises(MothrError, match=r"unknown need 'truths'; did you mean truth"):
        needs(Greedy())


@pytest.mark.parametrize(
    ("code", "message"),
    [("def (", "invalid syntax|expected"), ("1 / 0", r"ZeroDivisionError: .*\(broken_.*\.py, line 1\)")],
)
def test_an_error_in_the_methods_own_module_is_one_line(tmp_path, monkeypatch, code, message):
    name = f"broken_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MothrError, match=f"cannot be imported: .*({message})"):
        find_method(f"{name}:method")
