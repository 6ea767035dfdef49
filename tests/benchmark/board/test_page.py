"""The pages in a browser: skipped where there is no Chromium."""

import csv
import io
import json
import re
from collections import Counter

import pytest

from mothr.benchmark.board.board import board
from mothr.benchmark.drawing import classify_edges
from mothr.benchmark.records.store import read_all


@pytest.mark.parametrize("split", ["", "tiny-v1"])
def test_a_page_opens_from_a_file_and_requests_nothing_but_itself(page, split, sample):
    page.browser.get_log("performance")
    page(split=split)
    events = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    requested = {
        event["params"]["request"]["url"].partition("#")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    own = page.browser.current_url.partition("#")[0]
    assert {url for url in requested if not url.startswith(("data:", "about:"))} == {own}
    assert page.run("return [document.scripts.length, all('img').length]") == [2, 0]
    assert any(
        sample.evil in name for name in page.run("return all('.overview th, .name').map(one => one.textContent)")
    )


@pytest.mark.parametrize("split", ["", "tiny-v1"])
def test_rows_are_those_of_the_table_and_can_be_downloaded_whole(page, results_folder, split):
    page(split=split)
    expected = board(read_all(results_folder))
    if split:
        expected = expected[expected["split"] == "tiny"]
        assert sorted(page.methods()) == sorted(expected["method"])
        assert sorted(page.texts(".tag")) == ["null", "null", "oracle", "self-run"]
    assert page.texts("#count") == ["7 rows on 2 boards" if split else "8 rows on 3 boards"]
    script = "const got = []; save = (name, type, content) => got.push(content); byId('csv').click(); byId('json').click(); return got"
    table, whole = page.run(script)
    lines = list(csv.DictReader(io.StringIO(table, newline="")))
    absent = (
        set()
        if split
        else {name for name in expected.columns if name.endswith(("_low", "_high")) and not name.startswith("edge_f1_")}
    )
    assert list(lines[0]) == [name for name in expected.columns if name not in absent]
    assert {line["id"] for line in lines} == {row["id"] for row in json.loads(whole)} == set(expected["id"])
    scores = dict(zip(expected["id"], expected["edge_f1"], strict=True))
    assert {line["id"]: float(line["edge_f1"]) for line in lines} == pytest.approx(scores, abs=1e-4)
    assert {line["method"] for line in lines} == set(expected["method"])


def test_all_splits_stand_side_by_side_and_each_number_leads_to_its_row(page, results_folder, sample):
    page(split="")
    cells = "return all('#overview tr').map(row => all('th, td', row).map(cell => cell.textContent))"
    scores = board(read_all(results_folder)).query("setting == 'open'").set_index(["split", "method"])["edge_f1"]
    shown = {name: f"{score:.2f}" for name, score in scores.items()}
    both = [float(scores[split, "seen"]) for split in ("other", "tiny")]
    head, first, *rest = page.run(cells)  # known-trees is one board, and no table
    assert head == ["Method", "mean", "other", "tiny"]
    mean = f"{sum(both) / 2:.2f}"
    assert first == ["seen", mean, shown["other", "seen"], shown["tiny", "seen"]]  # the only one on both
    assert rest[0][0] == "perfect"
    assert sorted(rest) == sorted(
        [name, "", "–", shown["tiny", name]] for name in ("perfect", "null-star", "oracle-root", sample.evil)
    )
    link = page.find("#overview tbody tr td:last-child a")
    assert re.fullmatch(r"seen on tiny, 0\.\d\d–\d\.\d\d, rank 1", link.get_attribute("title"))
    link.click()
    page.until("page.page === 'split' && opened")
    assert page.run("const row = rows.get(opened.dataset.row); return row.name + row.board.folder") == "seentiny-v1"
    row = page.run("return opened.dataset.row")
    page(f"row={row}", split="")  # the index leads on to the page of the split
    page.until("page.page === 'split' && opened?.dataset.row === '" + row + "'")
    page("text=perf", split="")
    assert page.run(cells) == []  # one board is left, and nothing to stand beside it
    assert not page.find("#overview").is_displayed()


def test_the_index_has_a_ranking_of_each_split_in_each_setting(page, sample):
    page(split="")
    assert page.texts("#boards h3") == ["other version 1", "tiny version 1"]
    assert page.methods() == []  # they are closed
    known, opened = page.texts("#boards section:last-child .ranking > summary")
    assert known.startswith("known-trees · best method: perfect 1.00, ")
    assert opened.startswith("open · best method: perfect 1.00, ")
    page.choose("split", "tiny-v1")
    page.until("all('tr.row').length === 7")  # a single split is open
    page.choose("setting", "open")
    assert sorted(page.methods()) == sorted(["null-star", "oracle-root", "perfect", "seen", sample.evil])
    assert page.browser.current_url.endswith("#split=tiny-v1&setting=open")
    [address] = page.run(
        "return all('tr.row .name').filter(one => one.textContent === 'perfect' && one.offsetParent).map(one => one.getAttribute('href'))"
    )
    assert address.startswith("tiny-v1/index.html#row=")
    page("family=llama", split="")
    assert page.texts("#boards h3") == ["other version 1"]


def test_a_column_is_sorted_both_ways_and_says_so(page, sample):
    page("setting=open")
    header = "section:not([hidden]) th[data-name=seconds]"
    for order in ("ascending", "descending"):
        page.click(f"{header} button")
        assert page.find(header).get_attribute("aria-sort") == order
        by_time = ["null-star", "oracle-root", "perfect", "seen", sample.evil]
        assert page.methods() == (by_time if order == "ascending" else by_time[::-1])
    assert len(page.run("return all('section:not([hidden]) th[aria-sort]:not([aria-sort=none])')")) == 1


def test_filters_keep_the_bounds_and_stand_in_the_address(page, sample):
    page()
    page.choose("text", "perf")
    assert sorted(set(page.methods())) == ["null-star", "oracle-root", "perfect"]
    assert page.texts("#count") == ["5 rows on 2 boards"]
    page.choose("setting", "open")
    assert page.browser.current_url.endswith("#setting=open&text=perf")
    page("given=nothing&setting=open")
    assert sorted(page.methods()) == sorted(["null-star", "oracle-root", "seen", sample.evil])
    page("kind=bound")
    assert set(page.methods()) == {"null-star", "oracle-root"}
    page("text=nobody")
    assert page.methods() == []
    assert page.find("#nothing").is_displayed()
    page.click("#clear")
    assert len(page.methods()) == 7


def test_an_opened_row_shows_each_edge_as_the_drawing_does_and_has_an_address(page, sample):
    page("setting=open&text=seen")
    page.open_row("seen")
    assert page.find(".row.open .name").get_attribute("aria-expanded") == "true"
    drawn = Counter(page.run("return all('.forest path').map(path => path.getAttribute('class'))"))
    assert drawn == Counter(
        f"edge-{edge.edge_class}" for edge in classify_edges(sample.two_trees, sample.answer.parents)
    )
    classes = ["correct", "reversed", "wrong_parent", "wrong_tree", "missing"]
    assert set(drawn) == {f"edge-{edge_class}" for edge_class in classes}
    looks = page.run(
        "return arguments[0].map(name => getComputedStyle(all('.forest .edge-' + name)[0]))"
        ".map(style => [style.stroke, style.strokeDasharray, style.strokeWidth, style.markerStart, style.markerEnd])",
        classes,
    )
    assert len({stroke for stroke, *_ in looks}) == len({tuple(shape) for _, *shape in looks}) == 5
    assert "arrow-reversed" in looks[1][3]
    assert "cross-wrong_tree" in looks[3][3]
    assert page.run("return all('.forest .abstained rect').length") == 1
    assert len(page.texts(".legend li")) == 9
    link = page.browser.current_url
    page(link.partition("#")[2])
    assert len(page.browser.find_elements("css selector", ".row.open")) == 1
    assert "row=" in link


def test_a_model_says_what_is_known_of_it_under_the_pointer_and_by_keyboard(page, sample):
    page("setting=open&text=seen")
    page.open_row("seen")
    page.click('.node[data-node="a1"]')
    [card] = page.texts(".card")
    assert "true parent: ar" in card
    assert "predicted parent: a3, reversed, confidence 0.250" in card
    assert sample.evil in card
    node = page.focused()
    node.send_keys("\ue015")  # down
    child = page.focused()
    assert child.get_attribute("aria-label").startswith("a3;")
    assert page.texts(".card")[0].startswith("a3")
    child.send_keys("\ue013")  # up
    assert page.focused().get_attribute("data-node") == "a1"
    page.focused().send_keys("\ue00c")  # escape
    assert page.texts(".card") == []
    labels = page.run("return all('.forest .node').map(node => node.getAttribute('aria-label'))")
    states = {label.partition(";")[0]: label for label in labels}
    assert "a6, wrong parent" in states["a5"]
    assert "a1, wrong tree" in states["b3"]
    assert "abstained" in states["b5"]
    assert "predicted as a root: wrong" in states["b6"]
    assert "predicted parent: a2, correct, confidence 0.900" in states["a6"]
    assert page.run("return all('figure').map(one => all('[tabindex=\"0\"]', one).length)")[:2] == [1, 1]


def test_the_card_gives_distances_and_evidence(page):
    page("setting=open&text=seen")
    page.open_row("seen")

    def card(node):
        page.run("all('.node').find(one => one.dataset.node === arguments[0]).focus()", node)
        text = page.run("return all('.card').find(one => one.checkVisibility()).innerText")
        return text.replace("\u00a0", " ").split("\n")

    # a1: its true parent ar is missing, and its own child a3 was predicted as its parent; nothing is known of a4.
    reversed_ = card("a1")
    assert "true parent: ar, distance 0.0500, evidence +0.0107 (points from parent to child)" in reversed_
    figures = "distance 0.0312, evidence −0.0210 (points from child to parent)"
    assert f"predicted parent: a3, reversed, confidence 0.250, {figures}" in reversed_
    assert reversed_[-1] == "nearest others: a5 0 (–), a2 0.0400 (0.0000), a6 0.250 (−0.0010)"
    # a5: a6 was predicted, a2 is true. A correct parent is measured once, and a model of another tree not at all.
    wrong = card("a5")
    assert "true parent: a2, distance 1.20e-7, evidence +0.0010 (points from parent to child)" in wrong
    figures = "distance 0.000123, evidence −0.5000 (points from child to parent)"
    assert f"predicted parent: a6, wrong parent, confidence 0.250, {figures}" in wrong
    correct = card("a6")
    assert correct.count("true parent: a2") == 1
    figures = "distance 0.250, evidence +0.0010 (points from parent to child)"
    assert f"predicted parent: a2, correct, confidence 0.900, {figures}" in correct
    other_tree = card("b3")
    assert "predicted parent: a1, wrong tree, confidence 0.250" in other_tree
    assert f"true parent: b1, {figures}" in other_tree
    root = card("ar")
    assert root[-1] == "nearest others: a1 0.0500 (−0.0107), a2 0.250 (+0.0010), a3 0.250 (+0.0010)"
    labels = page.run("return all('.forest .node').map(node => node.getAttribute('aria-label'))")
    assert not [label for label in labels if "distance" in label or "evidence" in label or "nearest" in label]
    [guide] = page.texts(".legend + p")
    for words in ("distance (relative)", "evidence of direction (residual_independence)", "layers body"):
        assert words in guide


def test_without_distances_the_card_is_as_short_as_its_label(page):
    page("setting=open&text=seen", split="other-v1")
    page.open_row("seen")
    page.click('.node[data-node="a1"]')
    script = "return all('.card').filter(one => one.checkVisibility()).map(one => all('*', one).map(line => line.textContent))"
    [card] = page.run(script)
    assert "; ".join(card) == page.focused().get_attribute("aria-label")
    assert card[2:] == ["true parent: ar", "predicted parent: a3, reversed"]
    assert page.browser.find_elements("css selector", ".legend + p") == []


def test_a_card_stands_below_its_model_or_above_where_there_is_no_room(page):
    page("setting=open")
    page.click("section:not([hidden]) tr.row:last-child .name")
    script = (
        "const node = all('.forest .node').find(one => one.dataset.node === arguments[0]);"
        "node.scrollIntoView({ block: arguments[1] }); node.focus();"
        "const card = all('.card').find(one => one.checkVisibility()).getBoundingClientRect(), spot = node.getBoundingClientRect();"
        "const longer = all('.scroll').filter(one => one.scrollHeight > one.clientHeight).length;"
        "return [card.top, card.bottom, spot.top, spot.bottom, longer]"
    )
    top, _, _, below, longer = page.run(script, "a1", "start")
    assert (top > below, longer) == (True, 0)
    for node, block in (("b6", "center"), ("a1", "end")):  # there is no room in the board, and none in the window
        top, bottom, above, _, longer = page.run(script, node, block)
        assert (0 <= top < bottom < above, longer) == (True, 0)


def test_cost_and_reliability_are_drawn_from_what_is_shown(page, sample):
    page("setting=open")
    page.click("section:not([hidden]) .chart summary")
    page.until("all('.chart .point').length")
    assert page.run("return all('.chart .point').length") == 5
    assert {"perfect", "seen"} <= set(page.texts(".chart text"))
    [panel] = page.texts("#reliability figure")
    assert "seen open" in panel
    assert f"{len(sample.answer.edges)} edges, 1 board" in panel
    page.choose("text", "perfect")
    assert not page.find("#reliability").is_displayed()
    page(split="")
    assert "1 board" in page.texts("#reliability figure")[0]


def test_the_index_has_the_regime_map(page):
    page(split="")
    page.until("all('#map td').length")
    assert page.texts("#map p")[1:] == ["Norms <b>tell</b>."]
    assert page.texts("#map summary") == ["by kind", "by rank"]
    assert page.texts("#map td") == ["0.75"]
    assert page.run("return all('#map td b').length") == 1


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(page, width):
    page("setting=open&text=seen", width=width)
    page.open_row("seen")
    page.click("section:not([hidden]) .chart summary")
    page.until("all('.chart .plotted').length")
    script = "all('.forest figure, .plotted').map(one => one.getBoundingClientRect().right)"
    inner, *reached = page.run(f"return [innerWidth, document.documentElement.scrollWidth, ...{script}]")
    assert inner == width
    assert max(reached) <= width
    page("split=tiny-v1", split="", width=width)
    page.until("all('tr.row').length")
    assert page.run("return document.documentElement.scrollWidth") <= width
