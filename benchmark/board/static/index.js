// The page of all results: side by side, then a section for each split with its ranking in each setting.
const linkToRow = (row) => make("a", { class: "name", href: addressOf(row) }, ...labelParts(row));

function rankingBlock(board) {
  const best = board.rows.find((row) => row.kind === "method" && mean(row) !== null);
  const words = best ? ` · best method: ${best.label.replaceAll('"', "")} ${[show(mean(best), 2), ...interval(best)].join(", ")}` : "";
  const block = make("details", { class: "ranking" }, make("summary", {}, board.setting, make("span", { class: "soft" }, words)));
  board.block = fillWhenOpened(block, () => [boardTable(board, linkToRow)]);
  return block;
}

function splitSection(folder, boards) {
  const [first] = boards;
  const head = make("h3", { id: folder }, make("a", { href: `${folder}/index.html` }, first.split), make("span", { class: "soft" }, ` version ${first.version}`));
  const notes = boardNotes({ ...first, not_run: [] }, (later) => `${later}/index.html`);
  return make("section", { "data-folder": folder, "aria-labelledby": folder }, head, ...notes, ...boards.map(rankingBlock));
}

function applyFilters() {
  select();
  hideRows();
  const folders = new Set(shownBoards().map((board) => board.folder));
  for (const element of all("#boards > section")) element.hidden = !folders.has(element.dataset.folder);
  for (const board of page.boards) {
    board.block.hidden = !board.shown;
    if (folders.size === 1 && board.shown) board.block.open = true;
  }
  countRows();
  overview();
  reliability();
}

// An address with a row is that of the row in its split's page.
function follow() {
  const row = rows.get(recall().get("row"));
  if (row) location.replace(addressOf(row));
  else applyFilters();
}

function start() {
  const folders = [...new Set(page.boards.map((board) => board.folder))];
  const sections = folders.map((folder) => splitSection(folder, page.boards.filter((board) => board.folder === folder)));
  byId("boards").append(...sections);
  regimeMap();
  offerDownloads("mothr-leaderboard");
  startFilters(() => {
    applyFilters();
    remember();
  });
  byId("boards").addEventListener("click", (event) => {
    const button = event.target.closest("thead button");
    if (button) sort(button);
  });
  addEventListener("hashchange", follow);
  follow();
}

start();
