"""The page in a browser: skipped where there is no Chromium."""

import csv
import io
import json
import os
import shutil
from collections import Counter

import pytest

from mothr.benchmark.board.board import board
from mothr.benchmark.board.drawing import compare
from mothr.benchmark.board.leaderboard import write_page
from mothr.benchmark.board.pairs import SplitPairs, TreePairs
from mothr.benchmark.board.pairs import write as write_pairs
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import read_all, write
from mothr.benchmark.score import metrics
from mothr.benchmark.storage import sha256_of, write_json

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
EVIL = "</script><img src=x onerror=alert(1)>"
TRUTH = ModelGraph({
    f"{tree}{node}": (f"{tree}{above}",) if above else () for tree in "ab" for node, above in ("r ", "1r", "2r", "31", "41", "52", "62")
    for above in [above.strip()]
})  # fmt: skip
STATES = {"a1": ("a3",), "a3": ("ar",), "a5": ("a6",), "b3": ("a1",), "b5": (), "b6": ()}
"""Reversed, missed, wrong parent, wrong tree; abstained on the last but one; and one that is named a root."""
ANSWER = ModelGraph({**TRUTH.parents, **STATES})
FAR = {
    "a1 a3": 0.03124,
    "a1 ar": 0.05,
    "a1 a2": 0.04,
    "a1 a5": 0.0,
    "a1 a4": None,
    "a5 a6": 0.000123,
    "a2 a5": 0.00000012,
}
"""Distances of some pairs; 0.25 of all others."""
SAYS = {"a1 a3": 0.021, "a1 ar": -0.0107, "a1 a5": None, "a1 a2": 0.0, "a5 a6": 0.5}
"""Evidence that the first of a pair is the parent; 0.001 of all others."""
STAR = ModelGraph({node: () if node[1] == "r" else (f"{node[0]}r",) for node in TRUTH.nodes})


def put_pairs(folder):
    """Writes what lies between the models of the split ``tiny``."""
    place, trees = folder / "tiny-v1", []
    for tree in TRUTH.trees:
        ids = sorted(tree)
        named = [f"{one} {other}" for at, one in enumerate(ids) for other in ids[at + 1 :]]
        far, says = [FAR.get(pair, 0.25) for pair in named], [SAYS.get(pair, 0.001) for pair in named]
        trees.append(TreePairs(ids=ids, distances=far, evidence=says))
    write_pairs(SplitPairs(
        split="tiny", version=1, manifest_sha256=sha256_of(place / "manifest.json"), distance="relative", direction="residual_independence",
        layers="body", trees=trees,
    ), place)  # fmt: skip


def put(folder, method, predicted, split="tiny", setting="open", **changes):
    """Writes the record of ``predicted``."""
    place = folder / f"{split}-v1"
    if not place.exists():
        write_json(place / "manifest.json", {"name": split, "family": "vit" if split == "tiny" else "llama"})
        nodes = {node: {"parents": list(parents), "task": EVIL} for node, parents in TRUTH.parents.items()}
        write_json(place / "truth.json", {"schema_version": 1, "split": split, "version": 1, "nodes": nodes})
    scored = {"metrics": metrics.score(TRUTH, predicted), "per_tree": metrics.per_tree(TRUTH, predicted)}
    fields = {
        "split": split, "split_version": 1, "manifest_sha256": sha256_of(place / "manifest.json"), "setting": setting, "status": "ok",
        "method": method, "method_version": "1", "parameters": {}, "seed": 0, "kind": "method", "given": [], "device": "cpu", "mothr_version": "0.1.0",
        "commit": None, "dirty": None, "packages": {"python": "3.12.0"}, "date": "2026-01-31T12:00:00Z", "seconds": 1.0,
        "parents": predicted.to_json(),
    }  # fmt: skip
    write(RunRecord(**fields | scored | changes), folder)


@pytest.fixture(scope="module")
def results_folder(tmp_path_factory):
    """Results of good, bad, evil and bounding methods on three boards, what lies between the models of one split, and a regime map."""
    folder = tmp_path_factory.mktemp("results")
    sure = {child: {parent: 0.25 if child in STATES else 0.9} for parent, child in ANSWER.edges}
    put(folder, "seen", ANSWER, seconds=20.0, confidence=sure, abstained=["b5"])
    put(folder, "perfect", TRUTH, seconds=0.5, given=["tree_count"])
    put(folder, "perfect", TRUTH, seconds=2.0, setting="known-trees", given=["trees"])
    put(folder, EVIL, STAR, seconds=300.0, parameters={"note": EVIL}, submission="entry")
    put(folder, "null-star", STAR, seconds=0.001, kind="null")
    put(folder, "oracle-root", STAR, seconds=0.01, kind="oracle", given=["truth"])
    put(folder, "null-star", STAR, setting="known-trees", kind="null", given=["trees"])
    put(folder, "seen", ANSWER, split="other")
    put_pairs(folder)
    write_text = (folder / "regimes" / "map.csv").write_text
    (folder / "regimes").mkdir()
    write_text(
        "grouping,regime,direction,accuracy,low,high,trees,edges\nkind,full,norm,0.75,0.6,0.9,5,100\nrank,4,norm,0.25,,,1,9\n"
    )
    (folder / "regimes" / "about.md").write_text("Norms <b>tell</b>.\n")
    return folder


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def address(results_folder, tmp_path_factory):
    """Where the page of these results lies."""
    return write_page(results_folder, tmp_path_factory.mktemp("page")).as_uri()


@pytest.fixture
def page(browser, address):
    """Opens the page anew with a fragment, at a width; returns the function, which is called once already."""

    def visit(fragment="", width=1400):
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get("about:blank")
        browser.get(f"{address}#{fragment}")
        return browser

    visit()
    yield visit
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def texts(browser, selector):
    return browser.execute_script(
        "return all(arguments[0]).filter(one => one.checkVisibility()).map(one => one.textContent)", selector
    )


def methods(browser):
    return browser.execute_script(
        "return all('tr.row').filter(one => one.offsetParent).map(one => table.method[one.dataset.row])"
    )


def click(browser, selector):
    browser.find_element("css selector", selector).click()


def until(browser, script):
    """Waits until the script returns something that holds: what a closed part shows is drawn soon after it is opened."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(f"return {script}"))


def choose(browser, field, value):
    script = "byId(arguments[0]).value = arguments[1]; byId(arguments[0]).dispatchEvent(new Event('input'))"
    browser.execute_script(script, field, value)


def test_it_opens_from_a_file_and_asks_for_nothing_but_itself(browser, page, address):
    browser.get_log("performance")
    page()
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"].partition("#")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert address in asked
    assert {url for url in asked if not url.startswith(("data:", "about:"))} == {address}
    assert browser.execute_script("return [document.scripts.length, all('img').length]") == [2, 0]
    assert any(EVIL in name for name in texts(browser, ".name"))


def test_rows_are_those_of_the_table_and_can_be_downloaded_whole(browser, page, results_folder):
    expected = board(read_all(results_folder))
    assert sorted(methods(browser)) == sorted(expected["method"])
    assert texts(browser, "#count") == ["8 rows on 3 boards"]
    assert sorted(texts(browser, ".tag")) == ["null", "null", "oracle", "self-run"]
    script = "const got = []; save = (name, type, content) => got.push(content); byId('csv').click(); byId('json').click(); return got"
    table, whole = browser.execute_script(script)
    lines = list(csv.DictReader(io.StringIO(table, newline="")))
    assert list(lines[0]) == list(expected.columns)
    assert [line["id"] for line in lines] == [one["id"] for one in json.loads(whole)] == list(expected["id"])
    assert [float(line["edge_f1"]) for line in lines] == pytest.approx(list(expected["edge_f1"]), abs=1e-4)
    assert {line["method"] for line in lines} == set(expected["method"])


def test_all_splits_stand_side_by_side_and_each_number_leads_to_its_row(browser, page, results_folder):
    cells = "return all('#glance tr').map(row => all('th, td', row).map(cell => cell.textContent))"
    scores = board(read_all(results_folder)).query("setting == 'open'").set_index(["split", "method"])["edge_f1"]
    shown = {name: f"{score:.2f}" for name, score in scores.items()}
    both = [float(scores[split, "seen"]) for split in ("other", "tiny")]
    head, first, *others = browser.execute_script(cells)  # known-trees is one board, and no table
    assert head == ["Method", "mean", "other", "tiny"]
    assert first == [
        "seen",
        f"{sum(both) / 2:.2f}",
        shown["other", "seen"],
        shown["tiny", "seen"],
    ]  # the only one on both
    assert others[0][0] == "perfect"
    assert sorted(others) == sorted(
        [name, "", "–", shown["tiny", name]] for name in ("perfect", "null-star", "oracle-root", EVIL)
    )
    click(browser, "#glance tbody tr td:last-child a")
    assert (
        browser.execute_script("return table.method[opened.dataset.row] + table.split[opened.dataset.row]")
        == "seentiny"
    )
    page("text=perf")
    assert browser.execute_script(cells) == []  # one board is left, and nothing to stand beside it
    assert not browser.find_element("id", "glance").is_displayed()


def test_a_column_is_sorted_both_ways_and_says_so(browser, page):
    page("split=tiny-v1&setting=open")
    header = "section:not([hidden]) th[data-name=seconds]"
    for order in ("ascending", "descending"):
        click(browser, f"{header} button")
        assert browser.find_element("css selector", header).get_attribute("aria-sort") == order
        by_time = ["null-star", "oracle-root", "perfect", "seen", EVIL]
        assert methods(browser) == (by_time if order == "ascending" else by_time[::-1])
    assert len(browser.execute_script("return all('section:not([hidden]) th[aria-sort]:not([aria-sort=none])')")) == 1


def test_filters_keep_the_bounds_and_stand_in_the_address(browser, page):
    choose(browser, "text", "perf")
    assert sorted(set(methods(browser))) == ["null-star", "oracle-root", "perfect"]
    assert texts(browser, "#count") == ["5 rows on 2 boards"]
    choose(browser, "setting", "open")
    assert browser.current_url.endswith("#setting=open&text=perf")
    page("told=nothing&setting=open&split=tiny-v1")
    assert sorted(methods(browser)) == sorted(["null-star", "oracle-root", "seen", EVIL])
    page("family=llama")
    assert methods(browser) == ["seen"]
    page("kind=bound")
    assert set(methods(browser)) == {"null-star", "oracle-root"}
    page("text=nobody")
    assert methods(browser) == []
    assert browser.find_element("id", "nothing").is_displayed()
    click(browser, "#clear")
    assert len(methods(browser)) == 8


def test_an_opened_row_shows_each_edge_as_the_drawing_does_and_has_an_address(browser, page):
    page("split=tiny-v1&setting=open&text=seen")
    click(browser, "section:not([hidden]) tr.method:not([hidden]) .name")
    assert browser.find_element("css selector", ".row.open .name").get_attribute("aria-expanded") == "true"
    drawn = Counter(
        browser.execute_script("return all('.forest path:not(.cross)').map(path => path.getAttribute('class'))")
    )
    assert drawn == Counter(edge.kind for edge in compare(TRUTH, ANSWER))
    assert set(drawn) == {"right", "reversed", "wrong", "elsewhere", "missed"}
    looks = "return ['right', 'reversed', 'wrong', 'elsewhere', 'missed'].map(kind => getComputedStyle(all('.forest path.' + kind)[0]))"
    dashes = browser.execute_script(
        f"{looks}.map(style => [style.stroke, style.strokeDasharray + style.strokeWidth].join())"
    )
    assert len(set(dashes)) == 5
    assert browser.execute_script("return all('.forest .abstained rect').length") == 1
    link = browser.current_url
    page(link.partition("#")[2])
    assert len(browser.find_elements("css selector", ".row.open")) == 1
    assert "row=" in link


def test_a_model_says_what_is_known_of_it_under_the_pointer_and_by_keyboard(browser, page):
    page("split=tiny-v1&setting=open&text=seen")
    click(browser, "section:not([hidden]) tr.method:not([hidden]) .name")
    click(browser, f'.node[data-node="{TRUTH.nodes.index("a1")}"]')
    [said] = texts(browser, ".card")
    assert "true parent: ar" in said
    assert "named parent: a3, reversed, confidence 0.250" in said
    assert EVIL in said
    node = browser.switch_to.active_element
    node.send_keys("\ue015")  # down
    child = browser.switch_to.active_element
    assert child.get_attribute("aria-label").startswith("a3;")
    assert texts(browser, ".card")[0].startswith("a3")
    child.send_keys("\ue00c")  # escape
    assert texts(browser, ".card") == []
    labels = browser.execute_script("return all('.forest .node').map(node => node.getAttribute('aria-label'))")
    states = {label.partition(";")[0]: label for label in labels}
    assert "a6, wrong parent" in states["a5"]
    assert "a1, wrong tree" in states["b3"]
    assert "abstained" in states["b5"]
    assert "named a root, wrongly" in states["b6"]
    assert "named parent: a2, right, confidence 0.900" in states["a6"]
    assert browser.execute_script("return all('figure').map(one => all('[tabindex=\"0\"]', one).length)")[:2] == [1, 1]


def test_the_card_says_how_far_models_are_and_where_the_evidence_points(browser, page):
    page("split=tiny-v1&setting=open&text=seen")
    click(browser, "section:not([hidden]) tr.method:not([hidden]) .name")

    def card(node):
        browser.execute_script(
            "all('.node').find(one => Number(one.dataset.node) === arguments[0]).focus()", TRUTH.nodes.index(node)
        )
        return (
            browser.execute_script("return all('.card').find(one => one.checkVisibility()).innerText")
            .replace("\u00a0", " ")
            .split("\n")
        )

    # a1: its true parent ar was missed, and it was hung below its own child a3; nothing is known of a4.
    reversed_ = card("a1")
    assert "true parent: ar, distance 0.0500, evidence +0.0107 (points from parent to child)" in reversed_
    assert (
        "named parent: a3, reversed, confidence 0.250, distance 0.0312, evidence −0.0210 (points from child to parent)"
        in reversed_
    )
    assert reversed_[-1] == "nearest others: a5 0 (–), a2 0.0400 (0.0000), a6 0.250 (−0.0010)"
    # a5: a6 was named, a2 is true. A right parent is measured once, and a model of another tree not at all.
    wrong = card("a5")
    assert "true parent: a2, distance 1.20e-7, evidence +0.0010 (points from parent to child)" in wrong
    assert (
        "named parent: a6, wrong parent, confidence 0.250, distance 0.000123, evidence −0.5000 (points from child to parent)"
        in wrong
    )
    right = card("a6")
    assert right.count("true parent: a2") == 1
    assert (
        "named parent: a2, right, confidence 0.900, distance 0.250, evidence +0.0010 (points from parent to child)"
        in right
    )
    elsewhere = card("b3")
    assert "named parent: a1, wrong tree, confidence 0.250" in elsewhere
    assert "true parent: b1, distance 0.250, evidence +0.0010 (points from parent to child)" in elsewhere
    root = card("ar")
    assert root[-1] == "nearest others: a1 0.0500 (−0.0107), a2 0.250 (+0.0010), a3 0.250 (+0.0010)"
    labels = browser.execute_script("return all('.forest .node').map(node => node.getAttribute('aria-label'))")
    assert not [label for label in labels if "distance" in label or "evidence" in label or "nearest" in label]
    [said] = texts(browser, ".legend + p")
    for words in ("distance (relative)", "evidence of direction (residual_independence)", "layers body"):
        assert words in said


def test_without_them_the_card_is_as_short_as_its_label(browser, page):
    page("split=other-v1&setting=open&text=seen")
    click(browser, "section:not([hidden]) tr.method:not([hidden]) .name")
    click(browser, f'.node[data-node="{TRUTH.nodes.index("a1")}"]')
    script = "return all('.card').filter(one => one.checkVisibility()).map(one => all('*', one).map(line => line.textContent))"
    [said] = browser.execute_script(script)
    assert "; ".join(said) == browser.switch_to.active_element.get_attribute("aria-label")
    assert said[2:] == ["true parent: ar", "named parent: a3, reversed"]
    assert browser.find_elements("css selector", ".legend + p") == []


def test_a_card_stands_below_its_model_or_above_where_there_is_no_room(browser, page):
    page("split=tiny-v1&setting=open")
    click(browser, "section:not([hidden]) tr.row:last-child .name")
    nodes = browser.find_elements("css selector", ".forest .node")
    script = (
        "arguments[0].scrollIntoView({ block: arguments[1] }); arguments[0].focus();"
        "const card = all('.card').find(one => one.checkVisibility()).getBoundingClientRect(), node = arguments[0].getBoundingClientRect();"
        "const longer = all('.scroll').filter(one => one.scrollHeight > one.clientHeight).length;"
        "return [card.top, card.bottom, node.top, node.bottom, longer]"
    )
    top, _, _, below, longer = browser.execute_script(script, nodes[0], "start")
    assert (top > below, longer) == (True, 0)
    for node, block in (("b6", "center"), ("a1", "end")):  # there is no room in the board, and none in the window
        top, bottom, above, _, longer = browser.execute_script(script, nodes[TRUTH.nodes.index(node)], block)
        assert (0 <= top < bottom < above, longer) == (True, 0)


def test_cost_reliability_and_regimes_are_drawn_from_what_is_shown(browser, page):
    page("split=tiny-v1&setting=open")
    click(browser, "section:not([hidden]) .chart summary")
    until(browser, "all('.chart .point').length && all('#map td').length")
    assert browser.execute_script("return all('.chart .point').length") == 5
    assert {"perfect", "seen"} <= set(texts(browser, ".chart text"))
    [panel] = texts(browser, "#reliability figure")
    assert "seen open" in panel
    assert f"{len(ANSWER.edges)} edges" in panel
    assert texts(browser, "#map p")[1:] == ["Norms <b>tell</b>."]
    assert texts(browser, "#map summary") == ["by kind", "by rank"]
    assert texts(browser, "#map td") == ["0.75"]
    assert browser.execute_script("return all('#map td b').length") == 1
    choose(browser, "text", "perfect")
    assert not browser.find_element("id", "reliability").is_displayed()


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(browser, page, width):
    page("split=tiny-v1&setting=open&text=seen", width)
    click(browser, "section:not([hidden]) tr.method:not([hidden]) .name")
    click(browser, "section:not([hidden]) .chart summary")
    until(browser, "all('.chart .plotted').length")
    ends = "all('.forest figure, .plotted').map(one => one.getBoundingClientRect().right)"
    inner, *reached = browser.execute_script(f"return [innerWidth, document.documentElement.scrollWidth, ...{ends}]")
    assert inner == width
    assert max(reached) <= width
