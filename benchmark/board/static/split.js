// The page of one split: a table for each setting; a row opens to show its forest over the true one.
let opened = null;

const nameButton = (row) => make("button", { type: "button", class: "name", "aria-expanded": "false" }, ...labelParts(row));

function boardSection(board) {
  const head = make("h2", { id: board.id }, board.setting, make("span", { class: "setting" }, `: ${settings[board.setting]}`));
  const chart = make("details", { class: "chart" }, make("summary", {}, "Accuracy against cost"));
  fillWhenOpened(chart, () => [costChart(board, chart)]);
  const notes = boardNotes(board, (later) => `../${later}/index.html`);
  const table = boardTable(board, nameButton);
  return make("section", { "data-board": board.id, "aria-labelledby": board.id }, head, ...notes, chart, table);
}

function applyFilters() {
  select();
  hideRows();
  for (const board of page.boards) all("#boards > section").find((section) => section.dataset.board === board.id).hidden = !board.shown;
  countRows();
  reliability();
}

function rememberAll() {
  remember(opened ? { row: opened.dataset.row } : {});
}

function toggle(element) {
  if (opened) {
    opened.classList.remove("open");
    opened.querySelector(".name").setAttribute("aria-expanded", "false");
    opened.nextElementSibling.remove();
  }
  opened = opened === element ? null : element;
  if (!opened) return;
  element.classList.add("open");
  element.querySelector(".name").setAttribute("aria-expanded", "true");
  element.after(make("tr", { class: "detail" }, make("td", { colspan: element.children.length }, sheet(rows.get(element.dataset.row)))));
}

function follow() {
  const id = recall().get("row");
  const element = all("tr.row").find((row) => row.dataset.row === id);
  if (element && element !== opened) toggle(element);
  applyFilters();
  element?.scrollIntoView();
  requestAnimationFrame(() => element?.scrollIntoView()); // once more, when what stands above is laid out
}

function start() {
  select();
  byId("boards").append(...page.boards.map(boardSection));
  offerDownloads(page.boards[0].folder);
  startFilters(() => {
    applyFilters();
    rememberAll();
  });
  byId("boards").addEventListener("click", (event) => {
    const button = event.target.closest("thead button");
    const element = event.target.closest("tr.row");
    if (button) sort(button);
    if (!element || String(getSelection())) return; // the reader is copying a number
    toggle(element);
    rememberAll();
  });
  addEventListener("hashchange", follow);
  follow();
}

start();
