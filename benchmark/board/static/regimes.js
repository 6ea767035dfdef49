// The regime map: a table for each grouping; those of several fields at once are closed at first.
function regimeMap() {
  const map = page.regime_map;
  if (!map) return;
  const place = byId("map");
  place.hidden = false;
  if (map.about) place.append(make("p", {}, map.about));
  for (const [grouping, regimes] of Object.entries(map.groups)) {
    const summary = make("summary", {}, `by ${grouping.replaceAll("_", " ").replaceAll("*", ", ")}`);
    const block = fillWhenOpened(make("details", { class: "grouping" }, summary), () => [regimeTable(map, grouping, regimes)]);
    block.open = !place.querySelector("details");
    place.append(block);
  }
}

function regimeCell(cell) {
  if (!cell || cell.accuracy === undefined) return make("td", { class: "soft" }, "–");
  const known = cell.low !== undefined;
  const differs = known && (cell.low > 0.5 || cell.high < 0.5);
  const ends = known ? `${show(cell.low, 2)}–${show(cell.high, 2)}, ` : "";
  const title = `${ends}${plural(cell.trees, "tree")}, ${plural(cell.edges, "edge")}`;
  return make("td", { class: `heat h${Math.round(10 * cell.accuracy)}`, title }, make(differs ? "b" : "span", {}, show(cell.accuracy, 2)));
}

function regimeTable(map, grouping, regimes) {
  const scores = map.scores.map((name) => make("th", { scope: "col" }, name.replaceAll("_", " ")));
  const head = make("tr", {}, make("th", { scope: "col", class: "left" }, "regime"), ...scores);
  const body = Object.entries(regimes).map(([regime, cells]) => make("tr", {}, make("th", { scope: "row" }, regime), ...cells.map(regimeCell)));
  const table = make("table", { class: "map" }, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Regime map by ${grouping}` }, table);
}
