"""The data set card: what a split holds, how it was made, under which licences, its checksum, and its known shortcuts."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mothr.benchmark.data.dataset import Truth, TruthNode
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.schema import Derived, EdgeKind, Recipe, Root, Topology
from mothr.generators.sources.source import provenance
from mothr.generators.values.training import Training

SHOWN = 12
"""Above so many roots or kinds of edges of one sort, a card shows the first few and counts the rest."""


def card(recipe: Recipe, truth: Truth, measured: Sequence[str] = (), checksum: str | None = None) -> str:
    """Returns the card as Markdown with YAML front matter.

    Args:
        recipe: What the data set was made from.
        truth: What is true of its models.
        measured: Lines on the shortcuts that were measured on the finished weights (see :mod:`mothr.generators.cards.shortcuts`).
        checksum: The data set's checksum (see :func:`mothr.generators.cards.croissant.checksum`).
    """
    family = FAMILIES[recipe.family](**recipe.model)
    tasks = sorted({task for node in truth.nodes.values() for task in (node.task or "").split("+") if task})
    sections = {
        "How it was made": _making(recipe, family),
        "What the models are, and what they learned": _learned(truth, family),
        "Data": _data(recipe, tasks, family),
        "Checksum": _checksum(checksum),
        "Known shortcuts in the weights": [*_shortcuts(recipe, family), "", *measured],
    }
    return _page(recipe, len(truth.nodes), _summary(recipe, truth, family), sections)


def hidden_card(recipe: Recipe, models: int, checksum: str) -> str:
    """Returns the card of a hidden split: what its recipe says, and nothing that was drawn or measured.

    Args:
        recipe: What it was made from, without its seeds.
        models: Their number.
        checksum: As for :func:`card`.
    """
    family = FAMILIES[recipe.family](**recipe.model)
    summary = [
        recipe.description,
        "",
        f"{models} models of the family {recipe.family}; purpose: {recipe.purpose}. {family.stored}",
        "",
        "Their labels are hidden. All seeds were drawn from a secret, so the recipe does not make these models again. The manifest's "
        "`commitment` is the SHA-256 of a salt and the labels' canonical JSON: once both are published, "
        "`mothr verify DATASET --labels LABELS` tells whether they are the ones that were there from the beginning.",
    ]
    sections = {
        "How it was made": _making(recipe, family),
        "Data": _data(recipe, recipe.tasks, family),
        "Checksum": _checksum(checksum),
        "Known shortcuts in the weights": _shortcuts(recipe, family),
    }
    return _page(recipe, models, summary, sections)


def _page(recipe: Recipe, models: int, summary: Sequence[str], sections: Mapping[str, Sequence[str]]) -> str:
    title = f"{recipe.name} v{recipe.version}"
    body = [line for name, lines in sections.items() if lines for line in (f"## {name}", "", *lines, "")]
    return "\n".join([*_front(recipe, models, title), f"# {title}", "", *summary, "", *body]).rstrip() + "\n"


def _front(recipe: Recipe, models: int, title: str) -> list[str]:
    size = "n<1K" if models < 1000 else "1K<n<10K" if models < 10_000 else "10K<n<100K"
    given = any(root.source is not None for root in recipe.roots)
    return [
        "---", f"pretty_name: {title}", f"license: {'other' if given else 'apache-2.0'}", "tags: [model-lineage, model-tree, weight-space]",
        f"size_categories: [{size}]", "---",
    ]  # fmt: skip


def _summary(recipe: Recipe, truth: Truth, family: Family) -> list[str]:
    graph = truth.graph
    withheld = sum(node.withheld or 0 for node in truth.nodes.values())
    gaps = (
        f" Between {sum(1 for node in truth.nodes.values() if node.withheld)} models and their parents there are {withheld} more, "
        "which are not in the data set."
        if withheld
        else ""
    )
    return [
        recipe.description,
        "",
        f"{len(graph.nodes)} models of the family {recipe.family} in {len(graph.trees)} Model Trees with {len(graph.edges)} edges; "
        f"purpose: {recipe.purpose}. {family.stored}{gaps}",
    ]


# How it was made


def _making(recipe: Recipe, family: Family) -> list[str]:
    lines = [f"Model: {', '.join(f'{key} {value}' for key, value in recipe.model.items())}.", ""]
    lines += ["| root | tree | tasks | start | training |", "|---|---|---|---|---|"]
    for root, shape in zip(recipe.roots, recipe.trees, strict=True):
        cells = (root.name, _shape(shape), ", ".join(root.tasks) or "unknown", _start(root), _training(root.training))
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    kinds: tuple[EdgeKind | Derived, ...] = (*recipe.edges, *(recipe.derived or ()))
    lines += [f"- {describe(kind)}" for kind in kinds]
    lines += [f"- {family.fresh}"] if family.fresh else []
    if recipe.withheld:
        lines.append(
            f"- {recipe.withheld:.0%} of the inner nodes below the roots are left out; the truth names the nearest ancestor left."
        )
    return lines


def describe(kind: EdgeKind | Derived) -> str:
    """Returns how one kind of edge or derived model was made, as a sentence or two of Markdown."""
    if isinstance(kind, Derived):
        fields = kind.transform.model_dump(exclude={"kind"}, exclude_none=True)
        settings = "".join(f", {key.replace('_', ' ')} {_value(value)}" for key, value in fields.items())
        training = f": {_training(kind.training)}" if kind.training else ""
        return f"{kind.transform.kind.capitalize()}{settings}: {kind.per_tree} a tree, of {kind.of} nodes{training}."
    how = "Full fine-tuning"
    if kind.lora:
        how = (
            f"LoRA of rank {'/'.join(map(str, kind.lora.ranks))} on {', '.join(kind.lora.targets)}, "
            f"alpha {kind.lora.alpha_over_rank:g} x rank, merged into the dense weights"
        )
    rule = {
        None: "A child never uses its parent's task, and siblings never share one.",
        "shared": "The children of a node share one task, which is not its own.",
        "continued": "A child goes on with its parent's tasks.",
    }[kind.task_rule]
    tasks = f" Tasks: {', '.join(kind.tasks)}." if kind.tasks else ""
    share = f" Relative frequency {kind.share:g}." if kind.share != 1 else ""
    return f"{how}: {_training(kind.training)}.{tasks} {rule}{share}"


def _value(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _shape(shape: Topology) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in shape.model_dump(exclude_none=True).items())


def _start(root: Root) -> str:
    if root.source is not None:
        what, licence = provenance(root.source)
        return f"given: {what} ({licence})"
    return f"{root.init}{f' (std {root.init_std})' if 'normal' in str(root.init) else ''}"


def _training(training: Training | None) -> str:
    if training is None:
        return "none here: left as it is"
    name = "AdamW" if training.optimizer == "adamw" else "SGD with momentum 0.9"
    kept = f", a checkpoint kept every {training.keep_every} steps" if training.keep_every else ""
    return (
        f"{training.steps} steps of {training.batch_size}, {name}, learning rate {training.learning_rate:g}, "
        f"weight decay {training.weight_decay:g}, warm-up {training.warmup:.0%} then cosine{kept}"
    )


# What they are and learned


def _learned(truth: Truth, family: Family) -> list[str]:
    """Returns a table of the kinds of models by relation, subtype and depth, with what they learned, from the truth alone."""
    groups: dict[tuple[str, str, int], list[TruthNode]] = {}
    for node in truth.nodes.values():
        groups.setdefault(
            (node.relation or "none", node.subtype or "root", -1 if node.depth is None else node.depth), []
        ).append(node)
    lines = [
        family.measured, "",
        "| relation | subtype | depth | models | before, mean | after, mean | after, least |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for (relation, subtype, depth), nodes in sorted(groups.items(), key=lambda item: (item[0][2], item[0])):
        figures = [figure for node in nodes for figure in [_figures(node)] if figure]
        if figures:
            before, after = zip(*figures, strict=True)
            cells = [f"{statistics.mean(before):.3f}", f"{statistics.mean(after):.3f}", f"{min(after):.3f}"]
        else:
            cells = ["-"] * 3
        lines.append(f"| {relation} | {subtype} | {'-' if depth < 0 else depth} | {len(nodes)} | {' | '.join(cells)} |")
    return lines


def _figures(node: TruthNode) -> tuple[float, float] | None:
    """Returns the metric before and after the node was made, if its training or transform recorded one: a mean where of several tasks."""
    record: Mapping[str, Any] = node.training or node.transform or {}
    if record.get("before") is None or record.get("after") is None:
        return None
    before, after = (float(np.mean(record[key])) for key in ("before", "after"))
    return before, after


# Data and checksum


def _data(recipe: Recipe, tasks: Sequence[str], family: Family) -> list[str]:
    lines = ["- `{}`: {} ({})".format(task, *family.data(task)) for task in tasks]
    licences = sorted({provenance(root.source)[1] for root in recipe.roots if root.source is not None})
    if licences:
        lines += [
            "",
            f"The weights descend from given roots, and their licences hold for them too: {'; '.join(licences)}.",
        ]
    else:
        lines += [
            "",
            "The weights are released under Apache-2.0. The data are not in the data set; their licences are named above.",
        ]
    return lines


def _checksum(checksum: str | None) -> list[str]:
    if checksum is None:
        return []
    return [
        f"`{checksum}`", "", "of all model files; find it again in the data set's folder with", "", "```", RECOMPUTE, "```",
    ]  # fmt: skip


RECOMPUTE = "find models companions -type f 2>/dev/null | LC_ALL=C sort | xargs sha256sum | sha256sum"
"""Gives the checksum on the command line."""


def _shortcuts(recipe: Recipe, family: Family) -> list[str]:
    found = []
    if any(edge.lora for edge in recipe.edges):
        targets = ", ".join(sorted({target for edge in recipe.edges if edge.lora for target in edge.lora.targets}))
        if all(edge.lora for edge in recipe.edges):
            found.append(
                f"- LoRA touches {targets} only: all else is bit-identical throughout a tree, which gives the partition away."
            )
        else:
            found.append(f"- LoRA touches {targets} only: all else is bit-identical between parent and child.")
        found.append("- The rank of the difference of two models grows with the number of LoRA edges between them.")
    if any(not edge.lora for edge in recipe.edges):
        found.append(
            "- All trees of a split are trained alike, so the size of an update says how many edges lie between two models."
        )
        found += [f"- {shortcut}" for shortcut in family.shortcuts]
    return found
