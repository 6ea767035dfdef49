// The forest: positions, classes and curved paths come from the data; here they become SVG.
const EDGE_WORDS = { correct: "correct edge", reversed: "reversed edge", missing: "missing true edge", wrong_parent: "wrong parent", wrong_tree: "wrong tree" };

function viewOf(drawing) {
  const parents = predictedParents(drawing);
  return { drawing, parents, abstained: new Set(drawing.abstained), roots: new Set(drawing.predicted_roots) };
}

// What the figures in a model's card are, where there are any.
function cardGuide() {
  const sources = page.pair_sources;
  if (!sources) return [];
  return [make("p", { class: "soft" }, `The card of a model gives its distance (${sources.distance}) to its predicted and true parents and to the ` +
    `nearest other models of its tree, and the evidence of direction (${sources.direction}): positive if the other model looks like its parent, ` +
    `negative if it looks like the child; near 0 it cannot tell. Both use the layers ${sources.layers}; no score depends on them.`)];
}

function straight(parent, child) {
  const [from, to] = [models.get(parent), models.get(child)];
  return `M${from.x} ${from.y} L${to.x} ${to.y}`;
}

// The edges of one tree by class, those that are drawn over others last.
function edgesOf(drawing, tree) {
  const inTree = (child) => models.get(child).tree === tree;
  return ["missing", "correct", "reversed", "wrong_parent", "wrong_tree"].map((edgeClass) => {
    const edges = drawing[edgeClass].map((edge) => {
      const [parent, child] = Array.isArray(edge) ? edge : [edge.parent, edge.child];
      return { parent, child, path: edge.path };
    });
    return { edgeClass, edges: edges.filter(({ child }) => inTree(child)) };
  });
}

// A circle, or the square with a question mark of a model on which the method abstained.
function modelMark(view, node) {
  const { x, y, radius } = node;
  const states = { "true-root": !node.parents.length, "predicted-root": view.roots.has(node.id), abstained: view.abstained.has(node.id) };
  const names = ["node", ...Object.keys(states).filter((state) => states[state])].join(" ");
  const mark = draw("g", { class: names, role: "button", "data-node": node.id, "aria-label": modelText(view, node.id).join("; ") });
  mark.append(draw("circle", { class: "target", cx: x, cy: y, r: 9 }));
  if (!states.abstained) mark.append(draw("circle", { cx: x, cy: y, r: radius }));
  else {
    const side = radius + 1.5;
    mark.append(draw("rect", { x: x - side, y: y - side, width: 2 * side, height: 2 * side }), draw("text", { x, y: y + 3.5, "text-anchor": "middle" }, "?"));
  }
  return mark;
}

function summaryOf(layers, abstained) {
  const count = Object.fromEntries(layers.map(({ edgeClass, edges }) => [edgeClass, edges.length]));
  const words = [`${count.correct} of ${count.correct + count.reversed + count.missing} edges correct`];
  const others = { reversed: count.reversed, "wrong parent": count.wrong_parent, "wrong tree": count.wrong_tree, abstained };
  return [...words, ...Object.entries(others).flatMap(([name, number]) => (number ? [`${number} ${name}`] : []))].join(", ");
}

function treeFigure(view, tree) {
  const layers = edgesOf(view.drawing, tree);
  const summary = summaryOf(layers, tree.nodes.filter(({ id }) => view.abstained.has(id)).length);
  const { width, height } = tree;
  const picture = draw("svg", { class: "drawing", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Tree ${tree.label}: ${summary}` });
  for (const { edgeClass, edges } of layers) {
    for (const { parent, child, path } of edges) {
      const words = `${nameOfModel(parent)} → ${child}: ${EDGE_WORDS[edgeClass]}`;
      picture.append(draw("path", { class: `edge-${edgeClass}`, d: path ?? straight(parent, child) }, draw("title", {}, words)));
    }
  }
  tree.nodes.forEach((node, place) => {
    picture.append(fill(modelMark(view, node), { tabindex: place ? -1 : 0 }, []));
  });
  const card = make("div", { class: "card", hidden: "" });
  const caption = make("figcaption", {}, make("b", {}, `Tree ${tree.label}`), summary);
  const figure = make("figure", {}, caption, make("div", { class: "picture" }, picture), card);
  watch(figure, picture, card, view);
  return figure;
}

function forest(drawing) {
  const view = viewOf(drawing);
  const grid = make("div", { class: "forest" }, ...page.trees.map((tree) => treeFigure(view, tree)));
  grid.style.setProperty("--tree", `${Math.max(220, ...page.trees.map((tree) => tree.width)) + 26}px`);
  return grid;
}

// Where an arrow key leads: up to the parent, down to the first child, and along a generation.
function neighbour(key, id) {
  const { tree, depth, parents } = models.get(id);
  const byPosition = (nodes) => nodes.sort((a, b) => a.x - b.x).map((node) => node.id);
  const level = byPosition(tree.nodes.filter((node) => node.depth === depth));
  const children = byPosition(tree.nodes.filter((node) => node.parents.includes(id)));
  const place = level.indexOf(id);
  return { ArrowUp: parents[0], ArrowDown: children[0], ArrowLeft: level[place - 1], ArrowRight: level[place + 1] }[key];
}

// Puts the card below its model, or above where there is no room below.
function placeCard(card, figure, mark) {
  card.style.left = 0; // where it was, it may have been squeezed
  const frame = figure.getBoundingClientRect();
  const spot = mark.getBoundingClientRect();
  const height = card.offsetHeight;
  const end = Math.min(innerHeight, figure.closest(".scroll").getBoundingClientRect().bottom);
  const above = spot.bottom + 6 + height > end && spot.top > height + 6;
  card.style.left = `${Math.max(0, Math.min(spot.left - frame.left, frame.width - card.offsetWidth - 2))}px`;
  card.style.top = `${(above ? spot.top - 6 - height : spot.bottom + 6) - frame.top}px`;
}

// Shows the card of the model under the pointer or in focus. A click keeps it; Escape or another click lets it go.
function watch(figure, picture, card, view) {
  let kept = null;
  const marks = new Map(all(".node", picture).map((mark) => [mark.dataset.node, mark]));
  const markAt = (event) => event.target.closest?.(".node");
  const put = (mark) => {
    for (const own of marks.values()) own.classList.toggle("lit", own === mark);
    card.hidden = !mark;
    if (!mark) return;
    const [first, ...rest] = modelText(view, mark.dataset.node, true);
    card.replaceChildren(make("b", {}, first), ...rest.map((words) => make("div", {}, words)));
    placeCard(card, figure, mark);
  };
  const keep = (mark) => {
    kept?.setAttribute("aria-pressed", "false");
    kept = kept === mark ? null : mark;
    kept?.setAttribute("aria-pressed", "true");
    put(kept);
  };
  const resting = () => kept || picture.querySelector(".node:focus-visible");
  const go = (mark) => {
    if (kept) keep(kept);
    for (const own of marks.values()) own.setAttribute("tabindex", own === mark ? 0 : -1);
    mark.focus();
  };
  picture.addEventListener("pointerover", (event) => put(markAt(event) || resting()));
  picture.addEventListener("pointerleave", () => put(resting()));
  picture.addEventListener("focusin", (event) => put(markAt(event)));
  picture.addEventListener("focusout", () => put(kept));
  picture.addEventListener("click", (event) => keep(markAt(event)));
  const act = (key, mark) => {
    const next = key.startsWith("Arrow") && marks.get(neighbour(key, mark.dataset.node));
    if (next) go(next);
    if (key === "Enter" || key === " ") keep(mark);
    if (key === "Escape") keep(kept);
  };
  picture.addEventListener("keydown", (event) => {
    const mark = markAt(event);
    if (!mark || !/^(Arrow|Enter$| $|Escape$)/.test(event.key)) return;
    act(event.key, mark);
    event.preventDefault();
  });
}
