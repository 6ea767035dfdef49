"""The data set card: content, origin, licences and checksum of a split, and its known shortcuts."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tomli_w

from mothr.benchmark.data.dataset import Truth, TruthNode
from mothr.generators.families import Family
from mothr.generators.recipe.drawn import AnyRecipe, DrawnRecipe
from mothr.generators.recipe.loading import resolved
from mothr.generators.recipe.schema import Derived, EdgeKind, Root, Topology
from mothr.generators.recipe.topology import family_of, sources_of, tasks_of
from mothr.generators.sources.source import provenance
from mothr.generators.values.training import OPTIMIZER_NAMES, Training


def card(
    recipe: AnyRecipe,
    truth: Truth,
    measured: Sequence[str] = (),
    checksum: str | None = None,
    described: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Returns the card as Markdown with YAML front matter.

    Args:
        recipe: The recipe of the data set.
        truth: Its truth.
        measured: Lines about shortcuts that were measured on the weights (see
            :mod:`mothr.generators.cards.shortcuts`).
        checksum: The checksum of the data set (see :func:`mothr.generators.cards.croissant.checksum`).
        described: Sections on the models as they are (see :mod:`mothr.generators.cards.differences`).
    """
    family = family_of(recipe)
    tasks = sorted({task for node in truth.nodes.values() for task in (node.task or "").split("+") if task})
    sections = {
        "How it was made": _making(recipe, family),
        "Models and what they learned": _learned(truth, family),
        **(described or {}),
        "Data": _data(recipe, tasks, family),
        "Checksum": _checksum(checksum),
        "Known shortcuts in the weights": [*_shortcuts(recipe, family), "", *measured],
    }
    return _page(recipe, len(truth.nodes), _summary(recipe, truth, family), sections)


def hidden_card(recipe: AnyRecipe, models: int, checksum: str) -> str:
    """Returns the card of a hidden split. It holds the content of the recipe, and nothing that was drawn or
    measured.

    Args:
        recipe: The recipe without its seeds.
        models: Number of models.
        checksum: As for :func:`card`.
    """
    family = family_of(recipe)
    summary = [
        recipe.description,
        "",
        f"{models} models of the family {recipe.family}; purpose: {recipe.purpose}. {family.stored}",
        "",
        "The labels are hidden. All seeds were drawn from a secret, so the recipe does not make these models again. The manifest's "
        "`commitment` is the SHA-256 of a salt and of the labels' canonical JSON. Once both are published, "
        "`mothr verify DATASET --labels LABELS` checks that the labels are the original ones.",
    ]
    sections = {
        "How it was made": _making(recipe, family),
        "Data": _data(recipe, tasks_of(recipe), family),
        "Checksum": _checksum(checksum),
        "Known shortcuts in the weights": _shortcuts(recipe, family),
    }
    return _page(recipe, models, summary, sections)


def _page(recipe: AnyRecipe, models: int, summary: Sequence[str], sections: Mapping[str, Sequence[str]]) -> str:
    title = f"{recipe.name} v{recipe.version}"
    body = [line for name, lines in sections.items() if lines for line in (f"## {name}", "", *lines, "")]
    return "\n".join([*_front(recipe, models, title), f"# {title}", "", *summary, "", *body]).rstrip() + "\n"


def _front(recipe: AnyRecipe, models: int, title: str) -> list[str]:
    size = "n<1K" if models < 1000 else "1K<n<10K" if models < 10_000 else "10K<n<100K"
    existing = bool(sources_of(recipe))
    return [
        "---", f"pretty_name: {title}", f"license: {'other' if existing else 'apache-2.0'}",
        "tags: [model-lineage, model-tree, weight-space]",
        f"size_categories: [{size}]", "---",
    ]  # fmt: skip


def _summary(recipe: AnyRecipe, truth: Truth, family: Family) -> list[str]:
    graph = truth.graph
    withheld = sum(node.withheld or 0 for node in truth.nodes.values())
    gaps = (
        f" There are {withheld} more models between {sum(1 for node in truth.nodes.values() if node.withheld)} models and their parents; "
        "they are not in the data set."
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


def _making(recipe: AnyRecipe, family: Family) -> list[str]:
    if isinstance(recipe, DrawnRecipe):
        return _drawing(recipe, family)
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
            f"- {recipe.withheld:.0%} of the inner nodes below the roots are left out; "
            "the true parent is the nearest ancestor in the data set."
        )
    return lines


def _drawing(recipe: DrawnRecipe, family: Family) -> list[str]:
    values = {key: value for key, value in resolved(recipe).items() if key not in ("description", "seed")}
    return [
        f"Every tree and every edge was drawn on its own, from the distributions below; this is draw {recipe.draw}. "
        "The key `drawn` of each model in `truth.json` holds the values of its own draw.",
        *(["", family.fresh] if family.fresh else []),
        "",
        "```toml",
        tomli_w.dumps(values).rstrip(),
        "```",
    ]


def describe(kind: EdgeKind | Derived) -> str:
    """Returns one or two sentences of Markdown on how one kind of edge or derived model was made."""
    if isinstance(kind, Derived):
        fields = kind.transform.model_dump(exclude={"kind"}, exclude_none=True)
        settings = "".join(f", {key.replace('_', ' ')} {_value(value)}" for key, value in fields.items())
        training = f": {_training(kind.training)}" if kind.training else ""
        return f"{kind.transform.kind.capitalize()}{settings}: {kind.per_tree} per tree, of {kind.of} nodes{training}."
    update = "Full fine-tuning"
    if kind.lora:
        name = "".join(("rs" if kind.lora.rslora else "", "DoRA" if kind.lora.dora else "LoRA"))
        update = (
            f"{name} of rank {'/'.join(map(str, kind.lora.ranks))} on {', '.join(kind.lora.targets)}, "
            f"alpha {kind.lora.alpha_over_rank:g} x rank, merged into the dense weights"
        )
    rule = {
        None: "A child's task differs from its parent's and from its siblings'.",
        "shared": "The children of a node share one task, which differs from the node's.",
        "continued": "A child continues its parent's training, on the same tasks.",
        "new": "A child's task differs from its parent's.",
        "sibling": "A child has the task of a sibling.",
        "parent": "A child has its parent's tasks.",
    }[kind.task_rule]
    tasks = f" Tasks: {', '.join(kind.tasks)}." if kind.tasks else ""
    share = f" Relative frequency {kind.share:g}." if kind.share != 1 else ""
    return f"{update}: {_training(kind.training)}.{tasks} {rule}{share}"


def _value(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _shape(shape: Topology) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in shape.model_dump(exclude_none=True).items())


def _start(root: Root) -> str:
    if root.source is not None:
        description, licence = provenance(root.source)
        return f"existing model: {description} ({licence})"
    return f"{root.init}{f' (std {root.init_std})' if 'normal' in str(root.init) else ''}"


def _training(training: Training | None) -> str:
    if training is None:
        return "none: left unchanged"
    checkpoints = f", a checkpoint kept every {training.keep_every} steps" if training.keep_every else ""
    options = training.model_dump(
        include={"trained", "l2_sp", "label_noise", "ema", "tail_average", "head_rate"}, exclude_none=True
    )
    return (
        f"{training.steps} steps of {training.batch_size}, {OPTIMIZER_NAMES[training.optimizer]}, "
        f"learning rate {training.learning_rate:g}, weight decay {training.weight_decay:g}, "
        f"warm-up {training.warmup:.0%} then {training.schedule or 'cosine'}{checkpoints}"
        + "".join(f", {name.replace('_', ' ')} {_value(value)}" for name, value in options.items())
    )


# Models and what they learned


def _learned(truth: Truth, family: Family) -> list[str]:
    """Returns a table of the models by relation, subtype and depth, with the metric before and after
    training."""
    groups: dict[tuple[str, str, int], list[TruthNode]] = {}
    for node in truth.nodes.values():
        groups.setdefault(
            (node.relation or "none", node.subtype or "root", -1 if node.depth is None else node.depth), []
        ).append(node)
    lines = [
        family.measured, "",
        "| relation | subtype | depth | models | before, mean | after, mean | after, minimum |", "|---|---|---|---|---|---|---|",
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
    """Returns the metric before and after the node was made, averaged over tasks; None if none was recorded."""
    record: Mapping[str, Any] = node.training or node.transform or {}
    if record.get("before") is None or record.get("after") is None:
        return None
    before, after = (float(np.mean(record[key])) for key in ("before", "after"))
    return before, after


# Data and checksum


def _data(recipe: AnyRecipe, tasks: Sequence[str], family: Family) -> list[str]:
    lines = ["- `{}`: {} ({})".format(task, *family.data(task)) for task in tasks]
    licences = sorted({provenance(source)[1] for source in sources_of(recipe)})
    if licences:
        lines += [
            "",
            f"The weights descend from existing models, whose licences also apply: {'; '.join(licences)}.",
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
        f"`{checksum}`", "", "is the checksum of all model files. This command in the data set's folder prints it again:",
        "", "```", RECOMPUTE, "```",
    ]  # fmt: skip


RECOMPUTE = "find models companions -type f 2>/dev/null | LC_ALL=C sort | xargs sha256sum | sha256sum"
"""Shell command that prints the checksum."""


def _shortcuts(recipe: AnyRecipe, family: Family) -> list[str]:
    if isinstance(recipe, DrawnRecipe):
        return [
            "- An edge with a low-rank update, or with frozen layers, leaves the other tensors bit-identical.",
            *(f"- {shortcut}" for shortcut in family.shortcuts),
        ]
    lines = []
    if any(edge.lora for edge in recipe.edges):
        targets = ", ".join(sorted({target for edge in recipe.edges if edge.lora for target in edge.lora.targets}))
        if all(edge.lora for edge in recipe.edges):
            lines.append(
                f"- LoRA changes {targets} only. "
                "All other tensors are bit-identical throughout a tree, which reveals the partition into trees."
            )
        else:
            lines.append(
                f"- LoRA changes {targets} only. All other tensors are bit-identical between parent and child."
            )
        lines.append("- The rank of the difference of two models grows with the number of LoRA edges between them.")
    if any(not edge.lora for edge in recipe.edges):
        lines.append(
            "- All trees of a split are trained alike, so the size of a difference shows the number of edges between two models."
        )
        lines += [f"- {shortcut}" for shortcut in family.shortcuts]
    return lines
