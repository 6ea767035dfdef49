"""Folders of results to write pages and tables from, and a browser to look at pages with."""

import os
import shutil
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mothr.benchmark.board.leaderboard import write_pages
from mothr.benchmark.board.pairs import SplitPairs, TreePairs
from mothr.benchmark.board.pairs import write as write_pairs
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import write
from mothr.benchmark.score import metrics
from mothr.benchmark.storage import sha256_of, write_json

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
EVIL = "</script><script>alert('&')</script>|*`"
"""A name that must stay text."""
TWO_TREES = ModelGraph({
    f"{tree}{node}": (f"{tree}{above}",) if above else () for tree in "ab" for node, above in ("r ", "1r", "2r", "31", "41", "52", "62")
    for above in [above.strip()]
})  # fmt: skip
STATES = {"a1": ("a3",), "a3": ("ar",), "a5": ("a6",), "b3": ("a1",), "b5": (), "b6": ()}
"""Predicted parents that are reversed, missing, wrong, of the wrong tree, abstained on (b5), and none (b6)."""
ANSWER = ModelGraph({**TWO_TREES.parents, **STATES})
DISTANCES = {
    "a1 a3": 0.03124,
    "a1 ar": 0.05,
    "a1 a2": 0.04,
    "a1 a5": 0.0,
    "a1 a4": None,
    "a5 a6": 0.000123,
    "a2 a5": 0.00000012,
}
"""Distances of some pairs; 0.25 of all others."""
EVIDENCE = {"a1 a3": 0.021, "a1 ar": -0.0107, "a1 a5": None, "a1 a2": 0.0, "a5 a6": 0.5}
"""Evidence that the first of a pair is the parent; 0.001 of all others."""
STAR = ModelGraph({node: () if node[1] == "r" else (f"{node[0]}r",) for node in TWO_TREES.nodes})


def true_forest(trees=5):
    """Trees of 1 + 4 + 16 models."""
    parents = {}
    for tree in range(trees):
        parents[f"{tree}"] = ()
        for child in range(4):
            parents[f"{tree}.{child}"] = (f"{tree}",)
            parents |= {f"{tree}.{child}.{leaf}": (f"{tree}.{child}",) for leaf in range(4)}
    return ModelGraph(parents)


FIVE_TREES = true_forest()


def random_forest(rng, nodes):
    """A forest of random trees on ``nodes``: some roots, and a node's parent is an earlier node."""
    order = rng.permutation(list(nodes)).tolist()
    return ModelGraph(
        {node: (order[rng.integers(i)],) if i and rng.random() < 0.9 else () for i, node in enumerate(order)}
    )


def put(folder, method, predicted, split="tiny", truth=FIVE_TREES, family="vit", **changes):
    """Writes the record of ``predicted`` with its scores, or of a failure if it is None; returns it."""
    split_folder = folder / f"{split}-v1"
    if not (split_folder / "manifest.json").exists():
        write_json(split_folder / "manifest.json", {"name": split, "family": family})
        nodes = {
            node: {"parents": list(parents), "task": EVIL, "relation": None} for node, parents in truth.parents.items()
        }
        write_json(split_folder / "truth.json", {"schema_version": 1, "split": split, "version": 1, "nodes": nodes})
    outcome = {"status": "failed", "error": EVIL, "metrics": {}, "per_tree": []}
    if predicted:
        scored = {"metrics": metrics.score(truth, predicted), "per_tree": metrics.per_tree(truth, predicted)}
        outcome = {"status": "ok", "parents": predicted.to_json(), "seconds": 1.0, **scored}
    fields = {
        "split": split, "split_version": 1, "manifest_sha256": sha256_of(split_folder / "manifest.json"), "setting": "open",
        "method": method, "method_version": "1", "parameters": {}, "seed": 0, "kind": "method", "given": [],
        "device": "cpu", "mothr_version": "0.1.0", "commit": None, "dirty": None, "packages": {"python": "3.12.0"},
        "date": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    record = RunRecord(**fields | outcome | changes)
    write(record, folder)
    return record


@pytest.fixture(scope="session")
def sample():
    """The functions and forests above, for tests that write more results."""
    return SimpleNamespace(
        evil=EVIL, truth=FIVE_TREES, two_trees=TWO_TREES, answer=ANSWER, put=put, random_forest=random_forest,
        true_forest=true_forest,
    )  # fmt: skip


@pytest.fixture
def filled(tmp_path):
    """A results folder with good, random, null, failed and incomplete methods on two splits."""
    rng = np.random.default_rng(0)
    put(tmp_path, "linea", FIVE_TREES)
    put(tmp_path, "linea", FIVE_TREES, setting="known-trees", given=["trees"])
    put(tmp_path, "null-random-tree", random_forest(rng, FIVE_TREES.nodes), kind="null")
    put(tmp_path, EVIL, random_forest(rng, FIVE_TREES.nodes), parameters={"note": EVIL}, given=["tree_count"])
    put(tmp_path, "broken", None)
    put(tmp_path, "gappy", random_forest(rng, FIVE_TREES.nodes), seed=1)
    put(tmp_path, "only-there", random_forest(rng, FIVE_TREES.nodes), split="other")
    return tmp_path


def put_pairs(folder):
    """Writes what lies between the models of the split ``tiny``."""
    split_folder, trees = folder / "tiny-v1", []
    for tree in TWO_TREES.trees:
        ids = sorted(tree)
        named = [f"{one} {other}" for at, one in enumerate(ids) for other in ids[at + 1 :]]
        distances, evidence = (
            [DISTANCES.get(pair, 0.25) for pair in named],
            [EVIDENCE.get(pair, 0.001) for pair in named],
        )
        trees.append(TreePairs(ids=ids, distances=distances, evidence=evidence))
    write_pairs(SplitPairs(
        split="tiny", version=1, manifest_sha256=sha256_of(split_folder / "manifest.json"), distance="relative",
        direction="residual_independence",
        layers="body", trees=trees,
    ), split_folder)  # fmt: skip


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory):
    """Results of good, bad, evil and bounding methods on three boards, what lies between the models of one split, and a regime map."""
    folder = tmp_path_factory.mktemp("results")

    def put_two(method, predicted, **changes):
        put(folder, method, predicted, truth=TWO_TREES, **changes)

    sure = {child: {parent: 0.25 if child in STATES else 0.9} for parent, child in ANSWER.edges}
    put_two("seen", ANSWER, seconds=20.0, confidence=sure, abstained=["b5"])
    put_two("perfect", TWO_TREES, seconds=0.5, given=["tree_count"])
    put_two("perfect", TWO_TREES, seconds=2.0, setting="known-trees", given=["trees"])
    put_two(EVIL, STAR, seconds=300.0, parameters={"note": EVIL}, submission="entry")
    put_two("null-star", STAR, seconds=0.001, kind="null")
    put_two("oracle-root", STAR, seconds=0.01, kind="oracle", given=["truth"])
    put_two("null-star", STAR, setting="known-trees", kind="null", given=["trees"])
    put_two("seen", ANSWER, split="other", family="llama")
    put_pairs(folder)
    write_text = (folder / "regimes" / "map.csv").write_text
    (folder / "regimes").mkdir()
    write_text(
        "grouping,regime,direction,accuracy,low,high,trees,edges\nkind,full,norm,0.75,0.6,0.9,5,100\nrank,4,norm,0.25,,,1,9\n"
    )
    (folder / "regimes" / "about.md").write_text("Norms <b>tell</b>.\n")
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium of 1400 x 1000 pixels."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver on this machine; on Debian: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for word in (
        "headless=new",
        "disable-gpu",
        "disable-dev-shm-usage",
        *(["no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(f"--{word}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def address(results_folder, tmp_path_factory):
    """The address of the index of these results."""
    return write_pages(results_folder, tmp_path_factory.mktemp("page")).as_uri()


@dataclass
class Pages:
    """The browser, with what tests do in it."""

    browser: Any
    """The driver of the browser."""
    index: str
    """The address of the index."""

    def __call__(self, fragment="", split="tiny-v1", width=1400):
        """Opens a split's page, or the index if ``split`` is empty, with a fragment at a width."""
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.get("about:blank")
        address = f"{self.index.removesuffix('index.html')}{split}/index.html" if split else self.index
        self.browser.get(f"{address}#{fragment}")

    def run(self, script, *values):
        """Returns what a script returns."""
        return self.browser.execute_script(script, *values)

    def texts(self, selector):
        """The texts of the visible elements."""
        script = (
            "return all(arguments[0]).filter(element => element.checkVisibility()).map(element => element.textContent)"
        )
        return self.run(script, selector)

    def methods(self):
        """The methods of the visible rows."""
        shown = "all('tr.row').filter(element => element.offsetParent)"
        return self.run(f"return {shown}.map(element => rows.get(element.dataset.row).name)")

    def find(self, selector):
        """The first element."""
        return self.browser.find_element("css selector", selector)

    def click(self, selector):
        """Clicks on the first element."""
        self.find(selector).click()

    def open_row(self, method):
        """Opens the first visible row of a method."""
        script = (
            "const shown = all('tr.row').filter(element => element.offsetParent);"
            "shown.find(element => rows.get(element.dataset.row).name === arguments[0]).querySelector('.name').click()"
        )
        self.run(script, method)

    def until(self, script):
        """Waits until the script returns something that holds: a closed part is drawn soon after it is opened."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 20).until(lambda _: self.run(f"return {script}"))

    def choose(self, name, value):
        """Sets a filter."""
        script = "byId(arguments[0]).value = arguments[1]; byId(arguments[0]).dispatchEvent(new Event('input'))"
        self.run(script, name, value)

    def focused(self):
        """The element in focus."""
        return self.browser.switch_to.active_element


@pytest.fixture
def page(browser, address):
    """Opens pages; nothing may be wrong in the browser's log."""
    yield Pages(browser, address)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
