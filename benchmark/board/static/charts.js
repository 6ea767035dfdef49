// Charts: accuracy against cost on one board, and reliability over all boards that are shown.
const scaled = (from, to, low, high) => (value) => low + ((value - from) / (to - from)) * (high - low);
const textAt = (x, y, words, anchor = "middle", style = "") => draw("text", { x, y, "text-anchor": anchor, ...(style && { class: style }) }, words);

function pointMark(row, x, y) {
  const shape = { null: "hollow", oracle: "diamond", metadata: "square", method: "dot" }[row.kind];
  if (shape === "diamond") return draw("path", { class: shape, d: `M${x} ${y - 5}l5 5-5 5-5-5z` });
  if (shape === "square") return draw("rect", { class: shape, x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
  return draw("circle", { class: shape, cx: x, cy: y, r: 4 });
}

// The axes of the scatter plot: where a value lies, and the grid with its numbers.
function costAxes(timed, width, height) {
  const [left, right, top, bottom] = [40, width - 12, 10, height - 40];
  const cost = (row) => Math.log10(Math.max(row.seconds, 0.01));
  const ends = [Math.floor(Math.min(...timed.map(cost))), Math.ceil(Math.max(...timed.map(cost)))];
  if (ends[0] === ends[1]) ends[1]++;
  const floor = Math.min(0.9, Math.floor(10 * Math.min(...timed.map((row) => mean(row)))) / 10);
  const x = scaled(ends[0], ends[1], left + 8, right - 8);
  const y = scaled(floor, 1, bottom - 6, top + 6);
  const grid = [];
  for (let power = ends[0]; power <= ends[1]; power++) {
    const words = power < 0 ? (10 ** power).toFixed(-power) : (10 ** power).toLocaleString("en");
    grid.push(draw("path", { class: "grid", d: `M${x(power)} ${top}V${bottom}` }), textAt(x(power), bottom + 16, words));
  }
  const step = 1 - floor > 0.5 ? 0.2 : 0.1;
  for (let value = 1; value >= floor - 1e-9; value -= step) {
    grid.push(draw("path", { class: "grid", d: `M${left} ${y(value)}H${right}` }), textAt(left - 6, y(value) + 4, show(value, 1), "end"));
  }
  grid.push(textAt((left + right) / 2, height - 6, "seconds a run, log scale"), textAt(left + 6, top + 2, metrics[mainMetric].label, "start", "axis-name"));
  return { x: (row) => x(cost(row)), y: (row) => y(mean(row)), grid, box: [left, top, right, bottom] };
}

function costChart(board, place) {
  const timed = board.rows.filter((row) => mean(row) !== null && row.seconds !== undefined);
  if (!timed.length) return make("p", { class: "soft" }, "No run here was timed.");
  const width = Math.min(820, Math.max(300, place.clientWidth));
  const height = 340;
  const { x, y, grid, box } = costAxes(timed, width, height);
  const name = `${metrics[mainMetric].label} against seconds a run, ${timed.length} rows; the table below holds the numbers`;
  const picture = draw("svg", { class: "plotted", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name }, ...grid);
  const points = timed.map((row) => ({ row, x: x(row), y: y(row) })).sort((a, b) => mean(b.row) - mean(a.row) || a.x - b.x);
  for (const { row, x: u, y: v } of points) {
    const words = `${row.label}: ${show(mean(row))} in ${seconds(row.seconds)} s`;
    picture.append(draw("g", { class: "point" }, draw("title", {}, words), pointMark(row, u, v)));
  }
  nameCostPoints(points, box, picture);
  const key = "Filled dots: methods; squares: methods that read metadata; rings: nulls; diamonds: oracles. " +
    "A name is left out where there is no room; the pointer shows it, and the table has it.";
  return make("div", { class: "figure" }, picture, make("p", { class: "soft" }, key));
}

// Writes the names of points where there is room; of the settings of one method, the best is named.
function nameCostPoints(points, box, picture) {
  const taken = points.map((point) => [point.x - 5, point.y - 5, point.x + 5, point.y + 5]);
  const named = new Set();
  for (const point of points) {
    const full = point.row.label.replaceAll('"', "");
    point.words = full.length <= 30 ? full : `${point.row.name.slice(0, 28)} …`;
    const spot = named.has(point.words) ? null : freeSpot(point, taken, box);
    named.add(point.words);
    if (spot) picture.append(textAt(spot.x, spot.y, point.words, spot.anchor));
  }
}

// Where a point's name meets no other name and no point: right, left, above or below it; null if nowhere.
function freeSpot({ words, x, y }, taken, [left, top, right, bottom]) {
  const wide = 6.1 * words.length;
  const middle = x - wide / 2;
  const spots = [
    [x + 8, y + 4, "start", x + 8],
    [x - 8, y + 4, "end", x - 8 - wide],
    [x, y - 8, "middle", middle],
    [x, y + 17, "middle", middle],
  ];
  for (const [u, v, anchor, start] of spots) {
    const box = [start, v - 10, start + wide, v + 2];
    const inside = box[0] >= left && box[1] >= top - 4 && box[2] <= right + 8 && box[3] <= bottom;
    const meets = taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
    if (!inside || meets) continue;
    taken.push(box);
    return { x: u, y: v, anchor };
  }
  return null;
}

// Reliability: a panel for each method with confidences in each setting.
function reliability() {
  const panels = new Map();
  for (const row of shownBoards().flatMap((board) => [...board.visible].filter((row) => row.reliability))) {
    const name = JSON.stringify([row.label, row.board.setting]);
    const panel = panels.get(name) || { bins: new Map(), boards: 0 };
    panel.boards++;
    for (const { tenth, edges, confidence_sum, correct } of row.reliability) {
      const bin = panel.bins.get(tenth) || { edges: 0, confidence: 0, correct: 0 };
      panel.bins.set(tenth, { edges: bin.edges + edges, confidence: bin.confidence + confidence_sum, correct: bin.correct + correct });
    }
    panels.set(name, panel);
  }
  const place = byId("reliability");
  place.hidden = !panels.size;
  place.querySelector(".panels").replaceChildren(...[...panels].map(([name, panel]) => reliabilityPanel(...JSON.parse(name), panel)));
}

function reliabilityPanel(name, setting, panel) {
  const side = 190;
  const low = 34;
  const x = scaled(0, 1, low, side - 6);
  const y = scaled(0, 1, side - low, 6);
  const bins = [...panel.bins.values()].map(({ edges, confidence, correct }) => ({ edges, u: confidence / edges, v: correct / edges }));
  bins.sort((a, b) => a.u - b.u);
  const most = Math.max(...bins.map((bin) => bin.edges));
  const words = ({ edges, u, v }) => `confidence ${show(u, 2)}, correct ${show(v, 2)}, ${plural(edges, "edge")}`;
  const attributes = { class: "plotted", width: side, height: side, viewBox: `0 0 ${side} ${side}`, role: "img" };
  const picture = draw("svg", { ...attributes, "aria-label": `${name}, ${setting}: ${bins.map(words).join("; ")}` });
  for (const tick of [0, 0.5, 1]) {
    picture.append(draw("path", { class: "grid", d: `M${x(tick)} 6V${side - low}M${low} ${y(tick)}H${side - 6}` }));
    picture.append(textAt(x(tick), side - low + 14, String(tick)), textAt(low - 5, y(tick) + 4, String(tick), "end"));
  }
  picture.append(draw("path", { class: "diagonal", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }), textAt((low + side) / 2, side - 4, "confidence"));
  picture.append(draw("path", { class: "span", d: `M${bins.map(({ u, v }) => `${x(u)} ${y(v)}`).join("L")}` }));
  for (const bin of bins) {
    const dot = draw("circle", { class: "dot", cx: x(bin.u), cy: y(bin.v), r: 2 + 4 * Math.sqrt(bin.edges / most) });
    picture.append(draw("g", {}, draw("title", {}, words(bin)), dot));
  }
  const edges = bins.reduce((sum, bin) => sum + bin.edges, 0);
  const caption = make("figcaption", {}, make("b", {}, name.replaceAll('"', "")), ` ${setting}`);
  return make("figure", { class: "panel" }, caption, picture, make("p", { class: "soft" }, `${plural(edges, "edge")}, ${plural(panel.boards, "board")}`));
}
