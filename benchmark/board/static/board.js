// The table of one board: a row for each method, sorted by any column.
const scoreColumn = (metric) => ({
  name: metric,
  words: metrics[metric].label,
  first: "descending",
  title: metrics[metric].question,
  value: (row) => mean(row, metric),
  cell: (row) => [show(mean(row, metric)), ...interval(row, metric)],
});

const boardColumns = [
  { name: "rank", words: "Rank", first: "ascending", style: "rank", value: (row) => row.rank, cell: (row) => [show(row.rank, 0)] },
  { name: "label", words: "Method", first: "ascending", style: "left stay", value: (row) => row.label },
  scoreColumn(mainMetric),
  { words: "0 to 1", style: "left plot", title: `Mean and 95 % interval of ${metrics[mainMetric].label} from 0 to 1; dashed: the best null` },
  {
    name: "worst",
    words: "Worst tree",
    first: "descending",
    title: `${metrics[mainMetric].label} of the worst tree`,
    value: (row) => row.worst_tree,
    cell: (row) => [show(row.worst_tree)],
  },
  ...treeMetrics.slice(1).map(scoreColumn),
  ...forestMetrics.map((metric) => ({
    name: metric,
    words: metrics[metric].label,
    first: "descending",
    title: metrics[metric].question,
    value: (row) => row.forest_scores[metric],
    cell: (row) => [show(row.forest_scores[metric])],
  })),
  { name: "seconds", words: "Seconds", first: "ascending", title: "Mean time of a run", value: (row) => row.seconds, cell: (row) => [seconds(row.seconds)] },
];

function whisker(row) {
  const { mean: value, low, high } = row.scores[mainMetric];
  const at = (share) => (4 + 96 * share).toFixed(1);
  const picture = draw("svg", { class: "whisker", viewBox: "0 0 104 18", "aria-hidden": "true" }, draw("path", { class: "axis", d: "M4 9H100" }));
  const best = row.board.best_null;
  if (best !== undefined) picture.append(draw("path", { class: "null", d: `M${at(best)} 1V17` }));
  if (low !== undefined) picture.append(draw("path", { class: "span", d: `M${at(low)} 9H${at(high)}` }));
  if (value !== undefined) picture.append(draw("circle", { cx: at(value), cy: 9, r: 3.5 }));
  return picture;
}

// A label: parameters are set apart, and broken only where one is too long for a line.
function labelParts(row) {
  const extra = row.label.slice(row.name.length).replaceAll('"', "").split(" ").filter(Boolean);
  const breakable = (words) => words.split(/(?<=[=_/-])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));
  const parts = extra.flatMap((words) => [" ", make("span", {}, ...breakable(words))]);
  return [row.name, make("span", { class: "extra" }, ...parts)];
}

function methodCell(row, nameElement) {
  const cell = make("th", { scope: "row", class: "stay" }, nameElement(row));
  const tags = [row.kind, row.unranked ? "unranked" : "", row.standing];
  for (const tag of tags.filter((tag) => tag && tag !== "method" && tag !== "run here")) {
    cell.append(" ", make("span", { class: `tag ${tag}` }, tag));
  }
  cell.append(make("small", {}, `given: ${row.given}`));
  if (row.unranked) cell.append(make("small", {}, row.unranked));
  if (row.failed) cell.append(make("small", {}, `${row.failed} of ${plural(row.seeds, "run")} failed`));
  return cell;
}

function rowElement(row, nameElement) {
  const element = make("tr", { class: `row ${row.kind}`, "data-row": row.id });
  for (const { name, style, cell } of boardColumns) {
    if (name === "label") element.append(methodCell(row, nameElement));
    else if (!name) element.append(make("td", { class: "plot" }, whisker(row)));
    else {
      const [value, ...below] = cell(row);
      element.append(make("td", style ? { class: style } : {}, value, ...below.map((words) => make("small", {}, words))));
    }
  }
  element.hidden = !row.board.visible.has(row);
  return element;
}

function headElement() {
  const cells = boardColumns.map(({ name, words, first, style, title }) => {
    const attributes = { scope: "col", ...(style && { class: style }) };
    if (!name) return make("th", { ...attributes, title }, words);
    const order = name === mainMetric ? first : "none";
    const button = make("button", { type: "button", ...(title && { title }) }, words);
    return make("th", { ...attributes, "aria-sort": order, "data-name": name, "data-first": first }, button);
  });
  return make("tr", {}, ...cells);
}

// The table of a board; `nameElement` makes the element with a row's name.
function boardTable(board, nameElement) {
  const body = board.rows.map((row) => rowElement(row, nameElement));
  const table = make("table", { class: "board" }, make("thead", {}, headElement()), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${board.split}, ${board.setting}` }, table);
}

// What is said of a board above its table.
function boardNotes(board, linkTo) {
  const count = [plural(board.trees, "tree"), plural(board.models, "model"), plural(board.ranked_methods, "method")].join(", ");
  const few = board.trees < 6 ? " With so few trees, no test can distinguish two methods at 5 %." : "";
  const notes = [make("p", { class: "soft" }, `${count}, family ${board.family}.${few}`)];
  if (board.superseded_by) {
    const link = make("a", { href: linkTo(board.superseded_by) }, board.superseded_by);
    notes.push(make("p", { class: "superseded" }, make("strong", {}, "Superseded by ", link), `: ${board.superseded_reason}`));
  }
  if (board.not_run.length) {
    const summary = make("summary", {}, `${plural(board.not_run.length, "method")} not run here`);
    notes.push(make("details", { class: "absent soft" }, summary, board.not_run.join(", ")));
  }
  return notes;
}

function hideRows() {
  for (const element of all("tr.row")) {
    const row = rows.get(element.dataset.row);
    element.hidden = !row.board.visible.has(row);
    const detail = element.nextElementSibling;
    if (detail?.classList.contains("detail")) detail.hidden = element.hidden;
  }
}

// Sorts by the column of a button in a table's head, so by keyboard as well. Missing values stay last.
function sort(button) {
  const header = button.closest("th");
  const body = header.closest("table").tBodies[0];
  const opposite = { ascending: "descending", descending: "ascending" };
  const order = opposite[header.getAttribute("aria-sort")] || header.dataset.first;
  for (const cell of all("th[aria-sort]", header.parentNode)) cell.setAttribute("aria-sort", cell === header ? order : "none");
  const sign = order === "ascending" ? 1 : -1;
  const { value } = boardColumns.find((column) => column.name === header.dataset.name);
  const valueIn = (element) => value(rows.get(element.dataset.row)) ?? null;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  const sorted = all("tr.row", body).map((element) => ({ element, detail: element.nextElementSibling, value: valueIn(element) }));
  sorted.sort((a, b) => (a.value === null) - (b.value === null) || sign * compare(a.value, b.value));
  for (const { element, detail } of sorted) body.append(element, ...(detail?.classList.contains("detail") ? [detail] : []));
}
