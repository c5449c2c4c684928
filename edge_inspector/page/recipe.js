/* Changes: each remembers what was before. */

function change(work) {
  past.push(JSON.stringify([state.regions, chosen]));
  if (past.length > MOST_UNDONE) past.shift();
  work();
  render();
}

function undo() {
  if (past.length) [state.regions, chosen] = JSON.parse(past.pop());
  render();
}

function inFrame([x, y, width, height]) {
  const view = state.cameras[camera];
  const [w, h] = [Math.min(Math.max(width, 1), view.width), Math.min(Math.max(height, 1), view.height)];
  return [Math.min(Math.max(x, 0), view.width - w), Math.min(Math.max(y, 0), view.height - h), w, h];
}

function fresh(stem) {
  let number = 1;
  while (state.regions.some((region) => region.name === `${stem}-${number}`)) number += 1;
  return `${stem}-${number}`;
}

function add() {
  const { width, height } = state.cameras[camera];
  const rect = inFrame([width * 3 / 8, height * 3 / 8, width / 4, height / 4].map(Math.round));
  const like = state.regions[chosen];
  const region = { camera, name: fresh("region"), rect, engine: like?.engine ?? "whole" };
  change(() => { chosen = state.regions.push(region) - 1; });
}

function remove() {
  if (chosen < 0) return;
  change(() => {
    state.regions.splice(chosen, 1);
    chosen = state.regions.findIndex((region) => region.camera === camera);
  });
}

function setField(id, value) {
  const region = state.regions[chosen];
  const count = Math.round(Number(value));
  if (id === "name") region.name = value;
  else if (id === "rows" || id === "columns") {
    const grid = { rows: 1, columns: 1, ...region.grid, [id]: Math.min(Math.max(count, 1), 64) };
    if (grid.rows * grid.columns > 1) region.grid = grid; else delete region.grid;
  } else if (["x", "y", "width", "height"].includes(id)) {
    const rect = [...region.rect];
    rect[["x", "y", "width", "height"].indexOf(id)] = count;
    region.rect = inFrame(rect);
  } else setEvidence(region, id, value);
}

function setEvidence(region, id, value) {
  if (value) region[id] = value; else delete region[id];
  if (!region.engine || !region.rules) delete region.fuse;
  if (id === "code" && value) for (const key of ["engine", "rules", "fuse", "grid", "ignore"]) delete region[key];
  if (id !== "code" && value) for (const key of ["code", "unreadable"]) delete region[key];
  if (!region.engine) for (const key of ["classifier", "classify"]) delete region[key];
}

/* Drawing. */

function svg(name, attributes, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function colour(region) {
  const names = [...new Set(state.regions.map((other) => other.engine ?? other.rules ?? other.code))];
  return COLOURS[names.indexOf(region.engine ?? region.rules ?? region.code) % COLOURS.length];
}

function drawCells(frame, { rect: [x, y, width, height], grid }, stroke) {
  for (let row = 1; row < grid.rows; row += 1) {
    const y1 = y + Math.floor(height * row / grid.rows);
    svg("line", { x1: x, y1, x2: x + width, y2: y1, stroke, class: "cell" }, frame);
  }
  for (let column = 1; column < grid.columns; column += 1) {
    const x1 = x + Math.floor(width * column / grid.columns);
    svg("line", { x1, y1: y, x2: x1, y2: y + height, stroke, class: "cell" }, frame);
  }
}

function drawRegion(frame, region, number, unit) {
  const [x, y, width, height] = region.rect;
  const stroke = colour(region);
  const kind = number === chosen ? "region chosen" : "region";
  svg("rect", { x, y, width, height, stroke, class: kind, "data-region": number }, frame);
  if (region.grid) drawCells(frame, region, stroke);
  for (const polygon of region.ignore ?? []) svg("polygon", { points: polygon.join(" "), class: "ignore" }, frame);
  const label = { x: x + 4 * unit, y: y + 15 * unit, fill: stroke, "font-size": 13 * unit, "stroke-width": 3 * unit, class: "label" };
  svg("text", label, frame).textContent = region.name;
}

function drawHandles(frame, { rect: [x, y, width, height] }, unit) {
  const side = 9 * unit;
  CORNERS.forEach(([across, down], corner) => svg("rect", {
    x: x + width * across - side / 2, y: y + height * down - side / 2, width: side, height: side,
    class: "handle", "data-corner": corner,
  }, frame));
}

function drawFrame() {
  const frame = at("frame");
  const view = state.cameras[camera];
  const room = at("stage").clientWidth - 24;
  const scale = Number(at("zoom").value) || Math.max(room / view.width, 0.05);
  frame.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  frame.setAttribute("width", view.width * scale);
  frame.setAttribute("height", view.height * scale);
  frame.replaceChildren();
  svg("image", { href: view.picture, width: view.width, height: view.height }, frame);
  // The smaller region lies on top, so that it can be taken hold of within a larger one.
  const area = (region) => region.rect[2] * region.rect[3];
  const here = state.regions.map((region, number) => [region, number]).filter(([region]) => region.camera === camera);
  here.sort(([a], [b]) => area(b) - area(a));
  for (const [region, number] of here) drawRegion(frame, region, number, 1 / scale);
  if (state.regions[chosen]?.camera === camera) drawHandles(frame, state.regions[chosen], 1 / scale);
}

function choices(select, values, value) {
  select.replaceChildren(...["", ...values].map((name) => new Option(name || "none", name, false, name === value)));
}

function fillForm() {
  const region = state.regions[chosen];
  at("form").hidden = !region;
  if (!region) return;
  const [x, y, width, height] = region.rect;
  const values = { name: region.name, engine: region.engine ?? "", rows: region.grid?.rows ?? 1, columns: region.grid?.columns ?? 1, x, y, width, height };
  for (const [id, value] of Object.entries(values)) at(id).value = value;
  choices(at("rules"), state.rules, region.rules ?? "");
  choices(at("code"), CODES, region.code ?? "");
}

function fillList() {
  at("engines").replaceChildren(...Object.keys({ ...state.engines, ...engines() }).map((name) => new Option(name)));
  at("list").replaceChildren(...state.regions.map((region, number) => {
    const line = document.createElement("li");
    const cells = region.grid ? `, ${region.grid.rows} x ${region.grid.columns}` : "";
    line.textContent = `${region.name} (${region.engine ?? region.rules ?? region.code}${cells})`;
    line.dataset.region = number;
    line.setAttribute("aria-selected", number === chosen);
    return line;
  }));
}

function render() {
  drawFrame();
  fillForm();
  fillList();
  const wrong = problem();
  at("problem").hidden = !wrong;
  at("problem").textContent = wrong ?? "";
  for (const id of ["save", "copy", "keep"]) at(id).disabled = Boolean(wrong);
  at("toml").value = wrong ?? documentText();
}

/* Hands. */

function choose(number) {
  chosen = number;
  camera = state.regions[number]?.camera ?? camera;
  at("camera").value = camera;
  render();
}

function point(event) {
  const place = new DOMPoint(event.clientX, event.clientY);
  return place.matrixTransform(at("frame").getScreenCTM().inverse());
}

function grab(event) {
  const { region, corner } = event.target.dataset;
  if (region === undefined && corner === undefined) return;
  event.preventDefault();
  at("frame").focus({ preventScroll: true });
  if (region !== undefined) choose(Number(region));
  const before = JSON.stringify([state.regions, chosen]);
  drag = { corner, from: point(event), rect: [...state.regions[chosen].rect], before };
  at("frame").setPointerCapture(event.pointerId);
}

function pull(event) {
  if (!drag) return;
  const to = point(event);
  const [dx, dy] = [Math.round(to.x - drag.from.x), Math.round(to.y - drag.from.y)];
  const [x, y, width, height] = drag.rect;
  const rect = drag.corner === undefined ? inFrame([x + dx, y + dy, width, height]) : stretched(drag, dx, dy);
  state.regions[chosen].rect = rect;
  render();
}

function stretched({ corner, rect: [x, y, width, height] }, dx, dy) {
  const [across, down] = CORNERS[corner];
  const view = state.cameras[camera];
  let [left, top, right, bottom] = [x, y, x + width, y + height];
  if (across === 0) left = Math.min(Math.max(left + dx, 0), right - 1);
  if (across === 1) right = Math.max(Math.min(right + dx, view.width), left + 1);
  if (down === 0) top = Math.min(Math.max(top + dy, 0), bottom - 1);
  if (down === 1) bottom = Math.max(Math.min(bottom + dy, view.height), top + 1);
  return [left, top, right - left, bottom - top];
}

function drop() {
  if (drag && JSON.stringify([state.regions, chosen]) !== drag.before) past.push(drag.before);
  drag = null;
}

function key(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
  else if (event.key === "Delete") remove();
  else if (step && chosen >= 0) {
    const [dx, dy] = step.map((one) => one * (event.shiftKey ? 10 : 1));
    change(() => {
      const [x, y, width, height] = state.regions[chosen].rect;
      state.regions[chosen].rect = inFrame([x + dx, y + dy, width, height]);
    });
  } else return;
  event.preventDefault();
}

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(documentText());
  } catch {
    at("toml").closest("details").open = true;
    at("toml").select();
    document.execCommand("copy");
  }
}

function keepPage() {
  state.toml = documentText();
  at("state").textContent = JSON.stringify(state).replaceAll("<", "\\u003c");
  download("recipe.html", `<!doctype html>\n${document.documentElement.outerHTML}\n`, "text/html");
}

at("frame").addEventListener("pointerdown", grab);
at("frame").addEventListener("pointermove", pull);
at("frame").addEventListener("pointerup", drop);
at("frame").addEventListener("pointercancel", drop);
at("frame").addEventListener("keydown", key);
at("list").addEventListener("click", (event) => event.target.dataset.region && choose(Number(event.target.dataset.region)));
at("form").addEventListener("change", (event) => change(() => setField(event.target.id, event.target.value.trim())));
at("form").addEventListener("submit", (event) => event.preventDefault());
at("delete").addEventListener("click", remove);
at("add").addEventListener("click", add);
at("undo").addEventListener("click", undo);
at("copy").addEventListener("click", copy);
at("save").addEventListener("click", () => download("recipe.toml", documentText(), "application/toml"));
at("keep").addEventListener("click", keepPage);
at("zoom").addEventListener("change", render);
at("camera").addEventListener("change", () => {
  camera = at("camera").value;
  chosen = state.regions.findIndex((region) => region.camera === camera);
  render();
});
window.addEventListener("resize", render);

at("camera").replaceChildren(...Object.keys(state.cameras).map((name) => new Option(name, name)));
at("why").querySelector("ul").replaceChildren(...state.why.map((sentence) => {
  const line = document.createElement("li");
  line.textContent = sentence;
  return line;
}));
at("why").hidden = !state.why.length;
render();
