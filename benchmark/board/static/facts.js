// What is known of one model, as lines of text.
const models = new Map();
for (const tree of page.trees ?? []) {
  tree.nodes.forEach((node, place) => {
    models.set(node.id, { ...node, tree, place });
  });
}

const nameOfModel = (id) => (models.has(id) ? id : "a model outside the truth");

// The predicted parents of each model, with what became of each edge.
function predictedParents(drawing) {
  const found = new Map([...models.keys()].map((id) => [id, []]));
  const add = (child, parent, verdict) => found.get(child)?.push({ parent, verdict });
  for (const [parent, child] of drawing.correct) add(child, parent, "correct");
  for (const [parent, child] of drawing.reversed) add(parent, child, "reversed");
  for (const { parent, child } of drawing.wrong_parent) add(child, parent, "wrong parent");
  for (const { parent, child } of drawing.wrong_tree) add(child, parent, "wrong tree");
  return found;
}

// The distance of two models of one tree, and the evidence that the first is the parent of the second.
function between(first, second) {
  const [a, b] = [models.get(first), models.get(second)];
  if (!a || !b || a.tree !== b.tree || !a.tree.distances) return null;
  return { distance: a.tree.distances[a.place][b.place], evidence: a.tree.evidence[a.place][b.place] };
}

const distanceText = (distance) => (distance ? distance.toPrecision(3) : (distance ?? "–"));
const evidenceText = (evidence) => (evidence === null ? "–" : `${evidence > 0 ? "+" : ""}${evidence.toFixed(4).replace("-", "−")}`);

function pairText(parent, child) {
  const pair = between(parent, child);
  if (!pair) return "";
  const points = pair.evidence ? `points from ${pair.evidence > 0 ? "parent to child" : "child to parent"}` : "cannot tell";
  return `, distance ${distanceText(pair.distance)}, evidence ${evidenceText(pair.evidence)} (${points})`;
}

// The three nearest models of the tree that are not in `mentioned`, each with its distance and the evidence that it is the parent.
function nearestText(model, mentioned) {
  const others = model.tree.nodes.filter(({ id }) => id !== model.id && !mentioned.includes(id));
  const known = others.map(({ id }) => ({ id, ...between(id, model.id) })).filter(({ distance }) => Number.isFinite(distance));
  const nearest = known.sort((a, b) => a.distance - b.distance).slice(0, 3);
  return nearest.map(({ id, distance, evidence }) => `${id}\u00a0${distanceText(distance)}\u00a0(${evidenceText(evidence)})`).join(", ");
}

// Lines on one model: what it is, its true parents, and its predicted parents with their confidence. A card also has distances and
// evidence; they would be too long for a label that is read aloud.
function modelText(view, id, forCard = false) {
  const model = models.get(id);
  const predicted = view.parents.get(id);
  const pair = (parent) => (forCard ? pairText(parent, id) : "");
  const isPredicted = (parent) => predicted.some((edge) => edge.parent === parent);
  const lines = [id, [model.note, `depth ${model.depth}`].filter(Boolean).join(", ")];
  for (const parent of model.parents) lines.push(`true parent: ${nameOfModel(parent)}${isPredicted(parent) ? "" : pair(parent)}`);
  if (!model.parents.length) lines.push("true root");
  if (view.abstained.has(id)) lines.push("abstained");
  else if (view.roots.has(id)) lines.push(`predicted as a root: ${model.parents.length ? "wrong" : "correct"}`);
  for (const { parent, verdict } of predicted) {
    const confidence = view.drawing.confidence?.[id]?.[parent];
    const sure = confidence === undefined ? "" : `, confidence ${show(confidence)}`;
    lines.push(`predicted parent: ${nameOfModel(parent)}, ${verdict}${sure}${pair(parent)}`);
  }
  const relation = view.drawing.relations?.[id];
  if (relation) lines.push(`predicted relation: ${relation}`);
  const others = forCard ? nearestText(model, [...model.parents, ...predicted.map(({ parent }) => parent)]) : "";
  return others ? [...lines, `nearest others: ${others}`] : lines;
}
