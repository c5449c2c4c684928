"use strict";

const state = JSON.parse(document.getElementById("state").textContent);
const NAME = /^[A-Za-z0-9_.-]{1,64}$/;
const CODES = ["data-matrix", "qr-code", "code-128", "any"];
const COLOURS = ["#3cc850", "#28a0f0", "#faa03c", "#dc5ac8", "#e6dc3c"];
const CORNERS = [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]];
const MOST_UNDONE = 100;

const at = (id) => document.getElementById(id);
const past = [];
let camera = Object.keys(state.cameras)[0];
let chosen = state.regions.findIndex((region) => region.camera === camera);
let drag = null;

/* The document: what is saved, and what stands against saving it. */

function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([key, inner]) => `${key} = ${toml(inner)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

function table(entries) {
  return Object.entries(entries).map(([key, value]) => `${key} = ${toml(value)}\n`).join("");
}

function engines() {
  const used = new Set(state.regions.flatMap((region) => [region.engine, region.classifier]).filter(Boolean));
  return Object.fromEntries([...used].map((name) => [name, state.engines[name] ?? `engines/${name}/1`]));
}

function documentText() {
  // Names may hold dots, so they are quoted as keys.
  const named = Object.fromEntries(Object.entries(engines()).map(([k, v]) => [JSON.stringify(k), v]));
  const text = Object.keys(named).length ? `\n[engines]\n${table(named)}` : "";
  return state.head + text + state.regions.map((region) => `\n[[regions]]\n${table(region)}`).join("");
}

function problemOf(region, number) {
  const [, , width, height] = region.rect;
  const who = `Region ${number + 1} ('${region.name}')`;
  if (!NAME.test(region.name)) return `${who}: a name has 1 to 64 letters, digits, '_', '.' or '-'.`;
  if (state.regions.findIndex((other) => other.name === region.name) < number) return `Two regions are named '${region.name}'.`;
  if (!region.engine && !region.rules && !region.code) return `${who} needs an engine, rules or a code.`;
  if (region.engine && !NAME.test(region.engine)) return `${who}: engine '${region.engine}' is no name of letters, digits, '_', '.' or '-'.`;
  const grid = region.grid ?? { rows: 1, columns: 1 };
  if (grid.rows > height || grid.columns > width) return `${who}: ${grid.rows} x ${grid.columns} cells do not fit into ${height} x ${width} px.`;
  return null;
}

function problem() {
  if (!state.regions.length) return "A recipe needs at least one region; press 'Add region'.";
  return state.regions.map(problemOf).find(Boolean) ?? null;
}
