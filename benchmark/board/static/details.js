// What is seen when a row is opened: facts, the forest, and scores of each tree.
function entries(values, style) {
  const known = Object.entries(values).filter(([, words]) => words);
  return known.map(([term, words]) => make("div", style ? { class: style } : {}, make("dt", {}, term), make("dd", {}, words)));
}

function runText({ seed, seconds: time, status, error }) {
  return `seed ${seed}: ${status}${time === undefined ? "" : ` in ${show(time, 2)} s`}${error ? ` (${error})` : ""}`;
}

function factList(row, details) {
  const { Packages: packages, ...short } = details.facts;
  const parameters = Object.entries(page.methods[row.method].parameters).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const wide = { Parameters: parameters.join(", ") || "none", Packages: packages, Runs: details.runs.map(runText).join("; ") };
  return make("dl", {}, ...entries({ ...short, Standing: row.standing }), ...entries(wide, "wide"));
}

function treeScores(details) {
  const head = ["Tree", ...treeMetrics.map((name) => metrics[name].label)].map((name) => make("th", { scope: "col" }, name));
  const body = page.scored_trees.map((tree, place) => make("tr", {}, make("th", { scope: "row" }, String(tree)),
    ...treeMetrics.map((name) => make("td", {}, show(details.tree_scores[name][place])))));
  return make("div", { class: "scroll" }, make("table", { class: "tree" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

function forestParts(details) {
  if (!page.trees) return [make("p", { class: "soft" }, "The truth of this split is hidden, so there is no forest to draw.")];
  const drawing = page.drawings[details.drawing];
  if (!drawing) return [make("p", { class: "soft" }, "No run has a prediction to draw.")];
  const legend = byId("legend").content.cloneNode(true);
  return [make("h3", {}, `Its forest over the true one, seed ${drawing.seed}`), legend, ...cardGuide(), forest(drawing)];
}

function sheet(row) {
  const details = page.details[row.id];
  const content = make("div", { class: "sheet" }, factList(row, details), ...forestParts(details));
  if (page.scored_trees.length) content.append(make("details", {}, make("summary", {}, "Scores of each tree"), treeScores(details)));
  const whole = Object.entries(details.whole_scores).map(([name, value]) => [metrics[name].label, String(value)]);
  if (whole.length) {
    const summary = make("summary", {}, "All that is measured over the whole forest");
    content.append(make("details", {}, summary, make("dl", {}, ...entries(Object.fromEntries(whole)))));
  }
  const address = new URLSearchParams({ row: row.id });
  content.append(make("p", { class: "soft" }, make("a", { href: `#${address}` }, "Link to this row")));
  return content;
}
