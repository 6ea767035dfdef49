"""The embedded text: whole, repeatable, split by document, and no two domains alike."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from io import BytesIO

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from mothr.benchmark.errors import MothrError
from mothr.generators.data import text


@pytest.fixture(params=text.DOMAINS, scope="module")
def domain(request: pytest.FixtureRequest) -> text.TextDomain:
    return text.DOMAINS[request.param]


@pytest.fixture
def toy(monkeypatch):
    """Returns a function that adds a domain of the given documents and returns its two parts."""

    def add(documents: dict[str, bytes]) -> tuple[bytes, bytes]:
        readers = {name: BytesIO(content).getvalue for name, content in documents.items()}
        monkeypatch.setitem(text.DOMAINS, "toy", text.TextDomain("toy", "", "", lambda: readers))
        text._subsets.cache_clear()
        return tuple(text.load("toy", part).numpy().tobytes() for part in ("train", "test"))

    yield add
    text._subsets.cache_clear()


def pages(count: int, size: int = 2000) -> dict[str, bytes]:
    return {f"page {at}": f"<{at:04}>".encode() + bytes([97 + at % 26]) * (size - 6) for at in range(count)}


def held(part: bytes) -> list[int]:
    return [int(piece[:4]) for piece in part.split(b"<")[1:]]


def test_there_are_domains_enough_for_a_forest():
    assert len(text.DOMAINS) >= 12
    assert all(name == domain.name and name.startswith("text-") for name, domain in text.DOMAINS.items())


@pytest.mark.parametrize("part", text.SIZES)
def test_text_has_the_promised_form(domain, part):
    result = text.load(domain.name, part)
    assert result.dtype == torch.uint8
    assert result.ndim == 1
    assert text.LEAST <= len(result) <= text.SIZES[part]
    assert len(result.unique()) > 15


def test_domains_say_where_they_come_from(domain):
    assert domain.description.endswith(".")
    assert domain.source


def test_every_package_that_carries_text_is_one_that_generating_needs():
    needed = [Requirement(line) for line in requires("mothr")]
    needed = {each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": "generate"})}
    assert {domain.package for domain in text.DOMAINS.values()} - {None} <= needed
    assert set(packages_distributions()["torchgen"]) == {"torch"}


def _trigrams(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns every three bytes and the byte that follows them, as numbers."""
    wide = part.astype(np.int64)
    return (wide[:-3] << 16) | (wide[1:-2] << 8) | wide[2:-1], wide[3:]


def _foretold(train: np.ndarray, test: np.ndarray) -> float:
    """Returns how often the byte that follows three others most often in ``train`` follows them in ``test``."""
    before, after = _trigrams(train)
    pairs, counts = np.unique((before << 8) | after, return_counts=True)
    order = np.lexsort((counts, pairs >> 8))  # of each three bytes, the most frequent successor comes last
    last = np.append(np.diff(pairs[order] >> 8) != 0, True)
    known, best = (pairs[order] >> 8)[last], (pairs[order] & 255)[last]
    before, after = _trigrams(test)
    at = np.searchsorted(known, before).clip(max=len(known) - 1)
    return float(np.mean((known[at] == before) & (best[at] == after)))


def test_each_domain_is_foretold_best_from_its_own_train_part():
    parts = {name: [text.load(name, part).numpy()[:150_000] for part in ("train", "test")] for name in text.DOMAINS}
    for name, (_, test) in parts.items():
        own, *others = sorted((_foretold(train, test[:20_000]) for train, _ in parts.values()), reverse=True)
        assert own == _foretold(parts[name][0], test[:20_000])
        assert own > others[0] + 0.03


def test_another_process_finds_the_same_text():
    code = "from mothr.generators.data import text\nfor name in text.DOMAINS: print(text.digest(name))"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    assert answer == [text.digest(name) for name in text.DOMAINS]


def test_unknown_names_are_an_error_with_near_names():
    with pytest.raises(MothrError, match=r"unknown text domain 'text-pyton'; did you mean .*text-python"):
        text.load("text-pyton", "train")
    with pytest.raises(MothrError, match="unknown subset 'valid'"):
        text.load("text-python", "valid")


def test_an_absent_package_is_an_error_that_names_the_remedy():
    with pytest.raises(MothrError, match=r"no_such_module: not installed.*install mothr\[generate\]"):
        text._folder("no_such_module")


def test_a_document_is_in_one_part_and_stays_there_when_others_come_and_go(toy):
    train, test = map(held, toy(pages(200)))
    assert sorted(train + test) == list(range(200))
    assert 10 < len(test) < 50
    fewer = dict(reversed([page for page in pages(200).items() if int(page[0][5:]) % 2]))
    assert [held(part) for part in toy(fewer)] == [[at for at in part if at % 2] for part in (train, test)]


def test_a_copy_of_a_document_is_never_in_both_parts(toy):
    train, test = map(held, toy({**pages(200), **{f"copy of {name}": page for name, page in pages(200).items()}}))
    assert sorted(train + test) == list(range(200))


def test_a_part_is_cut_at_its_size_and_a_document_at_its_own(toy):
    train, test = toy(pages(800))
    assert (len(train), len(test)) == (text.SIZES["train"], text.SIZES["test"])
    train, test = toy({**pages(100), "long": b"~" * 200_000})
    assert (train + test).count(b"~") == text.LONGEST


def test_too_little_text_is_an_error(toy):
    with pytest.raises(MothrError, match=r"toy: the installed Python contains too little of this text"):
        toy(pages(3))


def test_line_ends_are_the_same_everywhere(toy):
    dos = {name: page[:1000] + b"\r\n" + page[1000:] for name, page in pages(200).items()}
    assert not any(b"\r" in part for part in toy(dos))


def test_sums_are_right():
    page = text.load("text-arithmetic", "test").numpy().tobytes().decode().split("\n")[0]
    lines = page.split("; ")
    assert len(lines) == 150
    for line in lines:
        left, right = line.split(" = ")
        first, sign, second = left.split()
        first, second = int(first), int(second)
        assert {"+": first + second, "-": first - second, "*": first * second, "/": first / second}[sign] == int(right)
