import csv
import io
import json
import re
from pathlib import Path

import networkx
import pydot
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.data.dataset import open_truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.exchange.exports import FORMATS, confident, format_of, read, render
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot")
HOSTILE = [
    "plain-1.0", 'a"b', "it's", "x<script>alert(1)</script>", "s;c:d,e|f", "[b]{c}(d)", "back\\slash\\", "#35; %%{init}%% & &amp; `c`",
    "---", "no", "123456789e12", " lead, trail ", "end", "node", "é😀\u202e", '"] --> n0; style n0', "=1+1", "a:b",
]  # fmt: skip
CONTROL = ["new\n---\nline", "cr\rlf\r\n", "tab\t", "\x1b[31mred", "nul\x00", "\x85\u2028", "\ufffe", ""]
XML_LACKS = "\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff"
REFUSED = {"graphml": XML_LACKS, "gexf": XML_LACKS, "newick": "\x00-\x1f\x7f-\x9f\u2028\u2029", "dot": "\x00"}
READABLE = ["node-link", "graphml", "gexf", "dot", "newick", "mermaid", "csv", "hub", "cyclonedx"]
MODELS = Prediction(
    ModelGraph({"r": (), "a": ("r",), "b": ("r",), "m": ("a", "b"), "q": ("m",), "s": ()}),
    confidence={("r", "a"): 0.9, ("a", "m"): 0.75, ("b", "m"): 0.4, ("m", "q"): 0.3},
    trees={"r": 4, "a": 4, "b": 4, "m": 4, "q": 4, "s": 7},
    abstained=frozenset({"s"}),
    relations={"a": "adapter", "q": "quantized"},
)
KNOWN = {
    ("r", "a"): {"relation": "adapter", "confidence": 0.9}, ("r", "b"): {}, ("a", "m"): {"relation": "merge", "confidence": 0.75},
    ("b", "m"): {"relation": "merge", "confidence": 0.4}, ("m", "q"): {"relation": "quantized", "confidence": 0.3},
}  # fmt: skip


# --- readers: text -> (nodes, {edge: attributes}); other programs read where there are any ---


def from_networkx(graph):
    edges = {
        edge: {key: value for key, value in graph.edges[edge].items() if key != "id"} for edge in graph.edges
    }  # GEXF numbers them
    return set(graph.nodes), edges


def from_dot(text):
    def plain(quoted):
        assert quoted[0] == quoted[-1] == '"'
        return re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL)

    [graph] = pydot.graph_from_dot_data(text)
    edges = {
        (plain(edge.get_source()), plain(edge.get_destination())): {
            key: plain(value) for key, value in edge.get_attributes().items()
        }
        for edge in graph.get_edges()
    }
    return {plain(node.get_name()) for node in graph.get_nodes()}, {
        edge: {key: float(value) if key == "confidence" else value for key, value in known.items() if key != "label"}
        for edge, known in edges.items()
    }


def from_newick(text):
    tokens = re.findall(r"'(?:[^']|'')*'|[(),;\n]", text)
    assert "".join(tokens) == text
    nodes, edges, open_, children = set(), {}, [[]], None
    for token in tokens:
        if token == "(":
            open_.append([])
        elif token == ")":
            children = open_.pop()
        elif token[0] == "'":
            name = token[1:-1].replace("''", "'")
            nodes.add(name)
            edges |= {(name, child): {} for child in children or ()}
            open_[-1].append(name)
            children = None
    assert len(open_) == 1
    assert text.count("\n") == len(open_[0])
    return nodes, edges


def from_mermaid(text):
    head, *lines = text.splitlines()
    assert head == "flowchart TD"
    names, edges = {}, {}
    for line in lines:
        node = re.fullmatch(r'  (n\d+)\["((?:[^"#]|#\d+;)*)"\](?::::abstained)?', line)
        edge = re.fullmatch(r'  (n\d+) -->(?:\|"([a-z]*) ?([\d.]*)"\|)? (n\d+)', line)
        if node:
            assert node[2]  # Mermaid refuses an empty label
            names[node[1]] = "" if node[2] == "#32;" else re.sub(r"#(\d+);", lambda code: chr(int(code[1])), node[2])
        elif edge:
            known = {"relation": edge[2], "confidence": edge[3] and float(edge[3])}
            edges[names[edge[1]], names[edge[4]]] = {key: value for key, value in known.items() if value}
        else:
            assert line == "  classDef abstained stroke-dasharray: 4"
    return set(names.values()), edges


def from_csv(text):
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    edges = {
        (row["parent"], row["child"]): {
            key: float(row[key]) if key == "confidence" else row[key] for key in ("relation", "confidence") if row[key]
        }
        for row in rows
    }
    return {node for edge in edges for node in edge}, edges


def from_hub(text):
    nodes, edges = set(), {}
    for card in yaml.safe_load_all(text):
        nodes.add(card["model_name"])
        parents = card.get("base_model", [])
        known = {"relation": card["base_model_relation"]} if "base_model_relation" in card else {}
        edges |= {
            (parent, card["model_name"]): known for parent in ([parents] if isinstance(parents, str) else parents)
        }
    return nodes, edges


def from_cyclonedx(text):
    components, edges = json.loads(text)["components"], {}
    for component in components:
        properties = {item["name"].removeprefix("mothr:"): item["value"] for item in component.get("properties", ())}
        for ancestor in component.get("pedigree", {}).get("ancestors", ()):
            known = {"relation": properties["relation"]} if "relation" in properties else {}
            if "evidence" in ancestor:
                [identity] = ancestor["evidence"]["identity"]
                known["confidence"] = identity["confidence"]
            edges[ancestor["name"], component["name"]] = known
    return {component["name"] for component in components}, edges


READERS = {
    "node-link": lambda text: from_networkx(networkx.node_link_graph(json.loads(text), edges="edges")),
    "graphml": lambda text: from_networkx(networkx.parse_graphml(text)),
    "gexf": lambda text: from_networkx(networkx.read_gexf(io.BytesIO(text.encode()))),
    "dot": from_dot, "newick": from_newick, "mermaid": from_mermaid, "csv": from_csv, "hub": from_hub, "cyclonedx": from_cyclonedx,
}  # fmt: skip


def schema_error(text):
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


def linked(names, step):
    """Returns a graph of ``names`` in which the parent of each is the name ``step`` places before it."""
    return Prediction(
        ModelGraph({name: (names[index - step],) if index >= step else () for index, name in enumerate(names)})
    )


# --- every format ---


@pytest.mark.parametrize("name", [name for name in READABLE if name != "newick"])
def test_nodes_edges_relations_and_confidence_are_read_back(name):
    nodes, edges = READERS[name](render(MODELS, name))
    without = {"hub": {"confidence"}}.get(name, set())
    assert edges == {
        edge: {key: value for key, value in known.items() if key not in without} for edge, known in KNOWN.items()
    }
    assert nodes == set("rabmq" if name == "csv" else "rabmqs")  # a list of edges has no place for a model without any


@pytest.mark.parametrize("name", READABLE)
def test_hostile_names_are_read_back_as_they_are(name):
    prediction = linked(HOSTILE, 3)
    text = render(prediction, name)
    nodes, edges = READERS[name](text)
    assert nodes == set(HOSTILE)
    assert set(edges) == set(prediction.graph.edges)
    if name in ("graphml", "gexf", "mermaid"):
        assert "<script>" not in text


@pytest.mark.parametrize("name", READABLE)
@settings(max_examples=15, deadline=None)
@given(names=st.lists(st.sampled_from(HOSTILE + CONTROL) | st.text(max_size=6), min_size=2, max_size=6, unique=True))
def test_any_name_is_read_back_or_refused_if_the_format_cannot_hold_it(name, names):
    prediction = linked(names, 1)
    if name in REFUSED and re.search(f"[{REFUSED[name]}]", "".join(names)):
        with pytest.raises(MothrError, match=f"which {name} cannot hold; rename the model"):
            render(prediction, name)
    else:
        nodes, edges = READERS[name](render(prediction, name))
        assert (nodes, set(edges)) == (set(names), set(prediction.graph.edges))


@pytest.mark.parametrize("name", FORMATS)
def test_a_name_that_utf_8_cannot_hold_is_refused(name):
    with pytest.raises(
        MothrError, match=rf"the model 'x\\ud800' has the character '\\ud800', which {name} cannot hold"
    ):
        render(linked(["z", "x\ud800"], 1), name)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_graph_and_a_chain_deeper_than_the_stack_are_written(name):
    assert isinstance(render(Prediction(ModelGraph({})), name), str)
    text = render(linked([f"n{number:04d}" for number in range(1500)], 1), name)
    assert text.endswith("\n")
    assert text == render(linked([f"n{number:04d}" for number in range(1500)], 1), name)


# --- single formats ---


def test_newick_refuses_a_merge_by_name_and_gives_each_tree_a_line():
    with pytest.raises(MothrError, match=r"'m' has several parents \('a', 'b'\)"):
        render(MODELS, "newick")
    assert render(confident(MODELS, 0.5), "newick") == "'q';\n(('m')'a','b')'r';\n's';\n"


def test_a_text_tree_shows_a_merge_under_each_parent_and_its_descendants_once():
    assert render(MODELS, "text") == (
        "r\n"
        "├── a  adapter 0.90\n"
        "│   └── m  *  merge 0.75\n"
        "│       └── q  quantized 0.30\n"
        "└── b\n"
        "    └── m  *  merge 0.40\n"
        "s  (abstained)\n"
        "\n"
        "* has several parents: it is shown below each, its descendants below the first only\n"
    )
    assert "*" not in render(linked(["a", "b", "c"], 1), "text")


def test_names_cannot_control_the_terminal():
    lines = render(linked(CONTROL + HOSTILE, 1), "text")
    assert lines.count("\n") == len(CONTROL + HOSTILE)
    assert all(line.isprintable() for line in lines.split("\n"))
    assert r"\x1b[31mred" in lines


def test_graph_formats_hold_trees_and_abstentions():
    nodes = {node["id"]: node for node in json.loads(render(MODELS, "node-link"))["nodes"]}
    assert (nodes["q"]["tree"], nodes["s"]) == (4, {"id": "s", "tree": 7, "abstained": True})
    assert networkx.parse_graphml(render(MODELS, "graphml")).nodes["s"] == {"tree": 7, "abstained": True}
    assert render(MODELS, "dot").count("style=dashed") == render(MODELS, "mermaid").count(":::abstained") == 1


def test_dot_labels_escape_entities_and_line_ends():
    text = render(linked(["a&lt;b\nc", "plain"], 1), "dot")
    assert '[label="a&amp;lt;b\\nc"]' in text
    assert '"plain";' in text


def test_each_block_of_front_matter_is_that_of_a_model_card():
    names = [*HOSTILE, *CONTROL]
    blocks = render(linked(names, 1), "hub").removeprefix("---\n").split("\n---\n")
    cards = {card.model_name: card.base_model for card in (ModelCard(f"---\n{block}\n---\n").data for block in blocks)}
    assert cards == {name: names[index - 1] if index else None for index, name in enumerate(names)}
    assert 'model_name: "123456789e12"\n' in render(linked(names, 1), "hub")  # bare, it is a number to the Hub
    assert 'base_model:\n- "a"\n- "b"\nbase_model_relation: merge\n' in render(MODELS, "hub")


def test_bills_of_materials_keep_to_the_schema_of_cyclonedx_1_6():
    for prediction in (MODELS, linked(HOSTILE + CONTROL, 2), Prediction(ModelGraph({}))):
        assert schema_error(render(prediction, "cyclonedx")) is None
    assert schema_error(render(MODELS, "cyclonedx").replace("0.75", "1.75")) is not None
    bill = json.loads(render(MODELS, "cyclonedx"))
    components = {component["name"]: component for component in bill["components"]}
    merged, alone = components["m"], components["s"]
    assert [ancestor["name"] for ancestor in merged["pedigree"]["ancestors"]] == ["a", "b"]
    assert (alone["properties"], "pedigree" in alone) == ([{"name": "mothr:abstained", "value": "true"}], False)
    assert len({component["bom-ref"] for component in bill["components"]}) == 6


# --- least confidence ---


def test_edges_of_lower_confidence_are_left_out_and_a_model_without_parents_abstains():
    result = confident(MODELS, 0.4)
    assert result.graph == ModelGraph(
        {"r": (), "a": ("r",), "b": ("r",), "m": ("a", "b"), "q": (), "s": ()}
    )  # 0.4 itself stays
    assert (result.abstained, result.relations) == ({"q", "s"}, {"a": "adapter"})
    result = confident(MODELS, 0.5)
    assert result.graph.parents["m"] == ("a",)
    assert result.abstained == {"q", "s"}
    assert READERS["csv"](render(result, "csv"))[1]["a", "m"] == {
        "confidence": 0.75
    }  # one parent alone: no longer known to be a merge
    assert confident(MODELS, 0) == MODELS
    with pytest.raises(MothrError, match="the least confidence is nan"):
        confident(MODELS, float("nan"))
    with pytest.raises(MothrError, match="no edge of this graph has a confidence"):
        confident(linked(["a", "b"], 1), 0.5)


# --- where graphs come from, and the command ---


def test_truths_predictions_and_runs_are_read(tiny, tmp_path):
    truth = open_truth(tiny)
    for source in (tiny, tiny / "truth.json"):
        assert read(source).graph == truth.graph
        assert set(read(source).relations.values()) == {"finetune"}
    path = tmp_path / "prediction.json"
    path.write_text(json.dumps(MODELS.to_json()))
    assert read(path) == MODELS
    record = RunRecord(
        split="tiny", split_version=1, manifest_sha256="0" * 64, setting="open", method="m", method_version="1", parameters={}, seed=0,
        given=[], kind="method",
        status="ok", parents=MODELS.graph.to_json(), relations=dict(MODELS.relations), metrics={}, per_tree=[], device="cpu",
        mothr_version="0", commit=None, dirty=None, packages={}, date="2026-01-01T00:00:00Z",
    )  # fmt: skip
    assert read(store.write(record, tmp_path)) == Prediction(MODELS.graph, relations=MODELS.relations)
    runs = store.write(record.model_copy(update={"seed": 1, "relations": None}), tmp_path)
    assert read(Path(f"{runs}#{record.run_id}")) == Prediction(MODELS.graph, relations=MODELS.relations)
    with pytest.raises(MothrError, match="holds 2 runs; name one of them"):
        read(runs)
    path.write_text(json.dumps({"parents": {}}))
    with pytest.raises(MothrError, match="schema_version is None"):
        read(path)


@pytest.mark.parametrize(
    ("name", "form"), [(f"x{ending}", name) for name, form in FORMATS.items() for ending in form.endings]
)
def test_the_ending_of_a_file_determines_the_format(name, form):
    assert format_of(Path(name.upper())) == form


def test_the_command_writes_a_file_or_standard_output(mothr, tmp_path):
    source, out = tmp_path / "prediction.json", tmp_path / "new" / "lineage.csv"
    source.write_text(json.dumps(MODELS.to_json()))
    assert mothr("export", source).out == render(MODELS, "text")
    assert mothr("export", source, "--format", "newick", "--min-confidence", 0.5).out == render(
        confident(MODELS, 0.5), "newick"
    )
    assert mothr("export", source, "--out", out, "--json").json == {
        "file": str(out),
        "format": "csv",
        "models": 6,
        "edges": 5,
    }
    assert out.read_bytes().decode() == render(MODELS, "csv")
    assert mothr("export", source, "--format", "hub", "--json").json["content"] == render(MODELS, "hub")
    assert [path.name for path in out.parent.iterdir()] == ["lineage.csv"]
    help_text = " ".join(mothr("export", "--help").out.split())
    assert all(re.search(rf"\b{name}\b", help_text) for name in FORMATS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--format", "grapml"), "unknown format 'grapml'; did you mean graphml"),
        (
            ("--out", "{}/x.grapml"),
            "unknown ending '.grapml'; did you mean .graphml or .yaml or .yml?; or name the format with --format",
        ),
        (("--out", "{}/old.nwk"), "Newick holds trees alone"),
        (("--min-confidence", "2"), "the least confidence is 2.0"),
    ],
)
def test_a_graph_that_cannot_be_exported_is_refused_and_old_files_stay(mothr, tmp_path, words, expected):
    (tmp_path / "prediction.json").write_text(json.dumps(MODELS.to_json()))
    (tmp_path / "old.nwk").write_text("old")
    called = mothr("export", tmp_path / "prediction.json", *(word.format(tmp_path) for word in words))
    assert (called.code, called.out) == (1, "")
    assert expected in called.err
    assert (tmp_path / "old.nwk").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
