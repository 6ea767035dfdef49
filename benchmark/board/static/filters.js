// Filters: they live in the address, so that a view can be linked to. Bounds stay wherever their board is shown.
const fields = ["split", "setting", "family", "given", "kind", "text"].map(byId).filter(Boolean);
const filterValue = (name) => byId(name)?.value ?? "";

function matches(row, words) {
  const [given, kind] = ["given", "kind"].map(filterValue);
  if (given && (given === "nothing") !== (row.given === "nothing")) return false;
  if (kind && kind !== row.kind) return false;
  const text = `${row.label} ${row.kind} given: ${row.given} ${row.standing}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

// Decides for each board whether it is shown, and which of its rows are.
function select() {
  const words = filterValue("text").toLowerCase().split(/\s+/).filter(Boolean);
  const boundsAlone = filterValue("kind") === "bound";
  const narrowed = filterValue("given") || filterValue("kind") || words.length;
  for (const board of page.boards) {
    const values = { split: board.folder, setting: board.setting, family: board.family };
    const chosen = Object.entries(values).every(([name, value]) => !filterValue(name) || filterValue(name) === value);
    const found = board.rows.filter((row) => !row.isBound && matches(row, words));
    board.visible = new Set(board.rows.filter((row) => row.isBound || found.includes(row)));
    board.shown = chosen && (found.length > 0 || (board.visible.size > 0 && (boundsAlone || !narrowed)));
  }
}

const shownBoards = () => page.boards.filter((board) => board.shown);

function countRows() {
  const boards = shownBoards();
  const count = boards.reduce((sum, board) => sum + board.visible.size, 0);
  byId("nothing").hidden = boards.length > 0;
  byId("count").value = `${plural(count, "row")} on ${plural(boards.length, "board")}`;
}

// Writes the filters and `more` into the address.
function remember(more = {}) {
  const state = new URLSearchParams();
  for (const field of fields) if (field.value) state.set(field.id, field.value);
  for (const [key, value] of Object.entries(more)) state.set(key, value);
  history.replaceState(null, "", `#${state}`);
}

// Sets the filters from the address; returns what the address says.
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) {
    field.value = state.get(field.id) || "";
    if (field.selectedIndex < 0) field.value = "";
  }
  return state;
}

// Shows the form; calls `changed` after each change of a filter.
function startFilters(changed) {
  for (const name of ["split", "setting", "family"]) {
    const values = page.boards.map((board) => (name === "split" ? board.folder : board[name]));
    byId(name)?.append(...[...new Set(values)].map((value) => make("option", {}, value)));
  }
  const form = byId("controls");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const field of fields) field.addEventListener("input", changed);
  byId("clear").addEventListener("click", () => {
    for (const field of fields) field.value = "";
    changed();
  });
}
