// Rows: each knows its board and its method. The tables, the drawings and the downloads read them.
const { metrics, tree_metrics: treeMetrics, forest_metrics: forestMetrics, settings } = page.texts;
const mainMetric = treeMetrics[0];
const rows = new Map();

for (const board of page.boards) {
  for (const row of board.rows) {
    const { label, method, kind } = page.methods[row.method];
    Object.assign(row, { board, label, name: method, kind, isBound: kind === "null" || kind === "oracle" });
    rows.set(row.id, row);
  }
}

const mean = (row, metric = mainMetric) => row.scores[metric].mean ?? null;

// The interval of a metric, and the number of trees if it is a single one or if the metric is not defined on all trees.
function interval(row, metric = mainMetric) {
  const { low, high, trees } = row.scores[metric];
  const words = low === undefined ? [] : [`${show(low, 2)}–${show(high, 2)}`];
  const count = trees ?? row.board.trees;
  return trees === undefined && count > 1 ? words : [...words, `n = ${count}`];
}

const addressOf = (row) => `${row.board.folder}/index.html#${new URLSearchParams({ row: row.id })}`;

// One row as the tidy table has it: a flat object.
function tidy(row) {
  const { board } = row;
  const { version, parameters } = page.methods[row.method];
  const scores = treeMetrics.flatMap((metric) => {
    const { mean: value, low, high, trees } = row.scores[metric];
    return Object.entries({
      [metric]: value,
      [`${metric}_n`]: trees ?? board.trees,
      [`${metric}_low`]: low,
      [`${metric}_high`]: high,
    });
  });
  return {
    id: row.id,
    split: board.split,
    split_version: board.version,
    setting: board.setting,
    rank: row.rank,
    method: row.name,
    method_version: version,
    parameters: JSON.stringify(parameters),
    label: row.label,
    kind: row.kind,
    given: row.given,
    standing: row.standing,
    unranked: row.unranked ?? "",
    trees: board.trees,
    seeds: row.seeds,
    failed: row.failed,
    ...Object.fromEntries(scores),
    [`${mainMetric}_worst`]: row.worst_tree,
    ...row.forest_scores,
    seconds: row.seconds,
  };
}

function csv() {
  const lines = [...rows.values()].map(tidy);
  const columns = Object.keys(lines[0]).filter((name) => lines.some((line) => line[name] !== undefined));
  const quote = (value) => {
    const text = String(value ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const body = lines.map((line) => columns.map((name) => line[name]));
  return `${[columns, ...body].map((line) => line.map(quote).join(",")).join("\r\n")}\r\n`;
}

function offerDownloads(name) {
  byId("csv").addEventListener("click", () => save(`${name}.csv`, "text/csv", csv()));
  const whole = () => JSON.stringify([...rows.values()].map(tidy), null, 1);
  byId("json").addEventListener("click", () => save(`${name}.json`, "application/json", whole()));
}
