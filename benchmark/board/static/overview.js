// All splits side by side: each method on each split that is shown, a table for each setting.
function overview() {
  const place = byId("overview");
  const blocks = Object.keys(settings).flatMap((setting) => {
    const boards = shownBoards().filter((board) => board.setting === setting && !board.superseded_by);
    return boards.length > 1 ? [overviewOf(setting, boards)] : [];
  });
  place.hidden = !blocks.length;
  const open = new Set(all("details[open]", place).map((block) => block.dataset.setting));
  const first = open.size ? open : new Set([blocks.at(-1)?.dataset.setting]);
  for (const block of blocks) block.open = first.has(block.dataset.setting);
  place.querySelector(".tables").replaceChildren(...blocks);
}

// The rows of each label, a place for each board; first the labels with a row on every board, by their mean.
function overviewLines(boards) {
  const lines = new Map();
  boards.forEach((board, place) => {
    for (const row of board.visible) {
      if (!lines.has(row.label)) lines.set(row.label, Array(boards.length).fill(null));
      lines.get(row.label)[place] = row;
    }
  });
  const ranked = [...lines.values()].map((own) => {
    const known = own.map((row) => row && mean(row)).filter((value) => value !== null);
    return { own, whole: known.length === boards.length, mean: known.reduce((sum, value) => sum + value, 0) / known.length };
  });
  return ranked.sort((a, b) => b.whole - a.whole || b.mean - a.mean);
}

function overviewCell(row) {
  if (!row || mean(row) === null) return make("td", { class: "soft" }, "–");
  const rank = row.rank === undefined ? [] : [`rank ${row.rank}`];
  const title = [`${row.label} on ${row.board.split}`, ...interval(row), ...rank].join(", ");
  return make("td", { class: `heat g${Math.round(10 * mean(row))}` }, make("a", { href: addressOf(row), title }, show(mean(row), 2)));
}

function overviewOf(setting, boards) {
  const body = overviewLines(boards).map(({ own, whole, mean: average }) => {
    const first = own.find((row) => row !== null);
    const head = make("th", { scope: "row", class: "stay" }, ...labelParts(first));
    return make("tr", { class: first.kind }, head, make("td", {}, whole ? make("b", {}, show(average, 2)) : ""), ...own.map(overviewCell));
  });
  const link = (board) => make("a", { href: `${board.folder}/index.html` }, board.split);
  const columns = boards.map((board) => make("th", { scope: "col" }, make("span", {}, link(board))));
  const head = make("tr", {}, make("th", { scope: "col", class: "left stay" }, "Method"), make("th", { scope: "col" }, make("span", {}, "mean")), ...columns);
  const table = make("table", { class: "overview" }, make("thead", {}, head), make("tbody", {}, ...body));
  return make("details", { "data-setting": setting }, make("summary", {}, `${setting}: ${settings[setting]}`),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `All splits, ${setting}` }, table));
}
