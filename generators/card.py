"""The data set card: what a split holds, how it was made, under which licences, and its known shortcuts."""

import statistics
from collections import Counter

from mothr.benchmark.dataset import Truth
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe import Recipe, Training


def card(recipe: Recipe, truth: Truth) -> str:
    """Returns the card as Markdown with YAML front matter, written from the recipe and the truth alone."""
    graph = truth.graph
    family = FAMILIES[recipe.family](**recipe.model)
    tasks = sorted({task for node in truth.nodes.values() for task in (node.task or "").split("+") if task})
    lines = [
        "---",
        f"pretty_name: {recipe.name} v{recipe.version}",
        "license: apache-2.0",
        "tags: [model-lineage, model-tree, weight-space]",
        f"size_categories: [{'n<1K' if len(graph.nodes) < 1000 else '1K<n<10K'}]",
        "---",
        f"# {recipe.name} v{recipe.version}",
        "",
        recipe.description,
        "",
        f"{len(graph.nodes)} models of the family {recipe.family} in {len(graph.trees)} Model Trees with {len(graph.edges)} edges; "
        f"purpose: {recipe.purpose}. {family.stored}",
        "",
        "## How it was made",
        "",
        f"Model: {', '.join(f'{key} {value}' for key, value in recipe.model.items())}.",
        "",
        "| root | tasks | initialisation | training |",
        "|---|---|---|---|",
    ]
    for root in recipe.roots:
        spread = f" (std {root.init_std})" if "normal" in root.init else ""
        lines.append(f"| {root.name} | {', '.join(root.tasks)} | {root.init}{spread} | {_training(root.training)} |")
    lines.append("")
    for edge in recipe.edges:
        kind = "Full fine-tuning"
        if edge.lora:
            kind = (
                f"LoRA of rank {'/'.join(map(str, edge.lora.ranks))} on {', '.join(edge.lora.targets)}, "
                f"alpha {edge.lora.alpha_over_rank:g} x rank, merged into the dense weights"
            )
        lines.append(f"- {kind}: {_training(edge.training)}. Tasks: {', '.join(edge.tasks)}.")
    lines += [
        " ".join(["- A child never uses its parent's task, and siblings never share one.", family.fresh]).strip(),
        "",
        "## What the models learned",
        "",
        family.measured,
        "",
        "| depth | models | before, mean | after, mean | after, least |",
        "|---|---|---|---|---|",
    ]
    depths: dict[int, list[dict[str, float]]] = {}
    for node in truth.nodes.values():
        if node.training is not None and node.depth is not None:
            depths.setdefault(node.depth, []).append(node.training)
    for depth, records in sorted(depths.items()):
        before, after = ([record[key] for record in records] for key in ("before", "after"))
        lines.append(f"| {depth} | {len(records)} | {statistics.mean(before):.3f} | {statistics.mean(after):.3f} | {min(after):.3f} |")
    relations = Counter(f"{node.relation} ({node.subtype})" for node in truth.nodes.values() if node.relation)
    lines += ["", f"Relations: {', '.join(f'{name}: {count}' for name, count in sorted(relations.items())) or 'none'}.", "", "## Data", ""]
    lines += ["- `{}`: {} ({})".format(task, *family.data(task)) for task in tasks]
    lines += ["", "The weights are released under Apache-2.0.", "", "## Known shortcuts in the weights", "", *_shortcuts(recipe, family)]
    return "\n".join(lines) + "\n"


def _training(training: Training) -> str:
    name = "AdamW" if training.optimizer == "adamw" else "SGD with momentum 0.9"
    return (
        f"{training.steps} steps of {training.batch_size}, {name}, learning rate {training.learning_rate:g}, "
        f"weight decay {training.weight_decay:g}, warm-up {training.warmup:.0%} then cosine"
    )


def _shortcuts(recipe: Recipe, family: Family) -> list[str]:
    found = []
    if any(edge.lora for edge in recipe.edges):
        targets = sorted({target for edge in recipe.edges if edge.lora for target in edge.lora.targets})
        touched = ", ".join(targets)
        found.append(f"- LoRA touches {touched} only: all else is bit-identical throughout a tree, which gives the partition away.")
        found.append("- The rank of the difference of two models grows with the number of edges between them.")
    if any(not edge.lora for edge in recipe.edges):
        found.append("- All trees of a split are trained alike, so the size of an update says how many edges lie between two models.")
        found += [f"- {shortcut}" for shortcut in family.shortcuts]
    return found
