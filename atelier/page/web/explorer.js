// The explorer: controls that change a recipe, and the picture of the recipe, rendered by onnxruntime-web.

import { drawGrain, labelWeights, latentField } from "./latents.js";
import { encodePng, provenance } from "./png.js";

const WALK_FRAMES = 101;
const NEIGHBOURS = 8;
const MAX_VARIATIONS = 16;
const PX_PER_DEVIATION = 60; // of dragging
const KEY_STEP = 0.2; // standard deviations

const element = (id) => document.getElementById(id);
const { model, software, nz, grain, directions, labels } = JSON.parse(element("model").textContent);
const picture = element("picture");
const sliders = [...document.querySelectorAll(".direction")];

const first = {
  seed: 1, index: 0, canvas: [1, 1], truncation: 1, varied: [], moves: directions.map(() => 0), walk: null, label: labels[0],
};
let state = structuredClone(first);
let ends = { a: null, b: null };
let playing = false;
let shown = null; // the pixels of the picture and its recipe
let session;

// The recipe of the state, with all keys of atelier/canvas/recipe.py; `label` only for a model with labels.
function recipeOf({ seed, index, canvas, truncation, varied, moves, walk, label }) {
  const moved = moves.map((amount, direction) => ({ direction, amount })).filter(({ amount }) => amount);
  const [variation = null, ...before] = [...varied].reverse();
  return {
    seed, index, canvas, truncation, layout: "random", normalise: "overlap", seamless: false,
    grown_from: null, grown_varied: [], varied: before.reverse(), variation, moves: moved, latent: null,
    walk: walk && { ...walk, stations: walk.stations.map((station) => ({ ...station, latent: null })) },
    ...(labels.length && !walk ? { label } : {}),
  };
}

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(element(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Render a recipe: its pixels as RGB, row by row.
async function render(recipe) {
  const [rows, columns] = recipe.canvas;
  const latents = latentField(recipe, nz, directions);
  const inputs = nz + labels.length + grain;
  const input = new Float32Array(inputs * rows * columns);
  input.set(latents);
  labelWeights(recipe, labels).forEach((weight, i) => input.fill(weight, (nz + i) * rows * columns, (nz + i + 1) * rows * columns));
  input.set(drawGrain(recipe, grain), (nz + labels.length) * rows * columns);
  const { images } = await session.run({ z: new ort.Tensor("float32", input, [1, inputs, rows, columns]) });
  const [, , height, width] = images.dims;
  const values = images.data;
  const rgb = new Uint8Array(3 * width * height);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < width * height; i++) {
      const level = Math.round((values[channel * width * height + i] + 1) * 127.5);
      rgb[3 * i + channel] = Math.min(255, Math.max(0, level));
    }
  }
  return { rgb, width, height };
}

function show(canvas, { rgb, width, height }) {
  canvas.width = width;
  canvas.height = height;
  const data = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    data.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
}

const named = ({ seed, index, label }) => `picture ${index} of seed ${seed}${label ? ` (${label})` : ""}`;

function describe(recipe) {
  const { seed, index, canvas, truncation, walk, moves, label } = recipe;
  const [start, end] = walk?.stations ?? [];
  const words = walk
    ? [`${walk.frame} % of the way from ${named(start)} to ${named(end)}`]
    : [`Picture ${index} of seed ${seed}`, ...(label ? [`label ${label}`] : [])];
  if (canvas.some((cells) => cells > 1)) words.push(`${canvas[0]} × ${canvas[1]} cells`);
  if (truncation !== 1) words.push(`truncation ${truncation}`);
  for (const { number, strength } of recipe.variation ? [...recipe.varied, recipe.variation] : []) {
    words.push(`its neighbour ${number} at distance ${strength}`);
  }
  for (const { direction, amount } of moves) words.push(`${amount > 0 ? "+" : ""}${amount} along direction ${direction}`);
  return words.join(", ");
}

// Only the newest state is rendered; those that come while a picture is being rendered are skipped.
let wanted = null;
let busy = null;
function update() {
  element("download").hidden = true; // it is that of another picture
  wanted = recipeOf(state);
  picture.setAttribute("aria-busy", "true");
  busy ??= (async () => {
    while (wanted) {
      const recipe = wanted;
      wanted = null;
      const pixels = await render(recipe);
      show(picture, pixels);
      shown = { pixels, recipe };
      const text = describe(recipe);
      element("recipe").textContent = text;
      picture.setAttribute("aria-label", text);
    }
    busy = null;
    picture.setAttribute("aria-busy", "false");
  })().catch(fail);
  controls();
  return busy;
}

// Make the controls show the state.
function controls() {
  for (const name of ["seed", "index", "truncation"]) if (document.activeElement !== element(name)) element(name).value = state[name];
  element("truncation-value").textContent = state.truncation;
  element("strength-value").textContent = element("strength").value;
  [element("rows").value, element("columns").value] = state.canvas;
  sliders.forEach((slider, direction) => {
    slider.value = state.moves[direction];
    slider.nextElementSibling.textContent = state.moves[direction];
  });
  if (labels.length) element("label").value = state.label;
  for (const id of ["position", "play", "leave"]) element(id).disabled = !state.walk;
  for (const id of ["seed", "index", "previous", "next", "random", "neighbours", ...(labels.length ? ["label"] : [])]) {
    element(id).disabled = !!state.walk;
  }
  if (state.walk) element("position").value = state.walk.frame;
  element("play").textContent = playing ? "Stop" : "Play";
  element("back").disabled = !state.varied.length;
  element("command").textContent = `atelier reproduce ${fileName()}`;
}

const fileName = () => (state.walk ? `walk-${state.walk.frame}.png` : `${state.seed}-${String(state.index).padStart(5, "0")}.png`);

function change(values) {
  state = { ...state, ...values };
  return update();
}

function choose(seed, index) {
  const whole = (number) => Math.min(2 ** 31 - 1, Math.max(0, Math.trunc(number) || 0));
  element("grid").replaceChildren();
  return change({ seed: whole(seed), index: whole(index), varied: [] });
}

const rounded = (amount) => Math.round(Math.min(6, Math.max(-6, amount)) * 100) / 100;

function move(changes) {
  return change({ moves: state.moves.map((amount, direction) => rounded(amount + (changes[direction] ?? 0))) });
}

async function showNeighbours() {
  const grid = element("grid");
  const strength = Number(element("strength").value);
  const before = state;
  grid.replaceChildren();
  if (before.varied.length === MAX_VARIATIONS) return;
  for (let number = 0; number < NEIGHBOURS; number++) {
    const varied = [...before.varied, { number, strength }];
    const pixels = await render(recipeOf({ ...before, varied }));
    if (state !== before) return;
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `Neighbour ${number}`);
    button.append(canvas);
    button.addEventListener("click", () => change({ varied }).then(showNeighbours));
    show(canvas, pixels);
    grid.append(button);
  }
}

function keep(end) {
  ends = { ...ends, [end]: { seed: state.seed, index: state.index, ...(labels.length ? { label: state.label } : {}) } };
  const words = (station) => (station ? named(station) : "?");
  element("walk").textContent = `From ${words(ends.a)} to ${words(ends.b)}.`;
  if (ends.a && ends.b) walkTo(0);
}

function walkTo(frame) {
  const walk = { stations: [ends.a, ends.b], frame, frames: WALK_FRAMES, loop: false, easing: "linear", grain: "still" };
  element("grid").replaceChildren();
  return change({ walk, ...ends.a, varied: [] });
}

async function play() {
  playing = !playing;
  while (playing && state.walk) {
    await walkTo((state.walk.frame + 1) % WALK_FRAMES);
    await new Promise(requestAnimationFrame);
  }
  playing = false;
  controls();
}

async function save() {
  await busy;
  const text = provenance(model, software, shown.recipe, shown.pixels);
  const link = element("download");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(await encodePng(shown.pixels, text));
  link.download = fileName();
  // some seconds after a click a browser lets no page start a download: then the person presses a link
  const late = navigator.userActivation?.isActive === false;
  link.hidden = !late;
  if (!late) link.click();
  element("status").textContent = late ? `${link.download} is ready: press “Download”.` : `Saved ${link.download}.`;
}

function fail(error) {
  element("status").textContent = `The model cannot be run in this browser: ${error.message ?? error}`;
  element("status").className = "error";
}

function listen() {
  const on = (id, event, act) => element(id).addEventListener(event, act);
  on("seed", "input", () => choose(element("seed").value, state.index));
  on("index", "input", () => choose(state.seed, element("index").value));
  on("previous", "click", () => choose(state.seed, state.index - 1));
  on("next", "click", () => choose(state.seed, state.index + 1));
  on("random", "click", () => choose(Math.random() * 2 ** 31, 0));
  if (labels.length) on("label", "change", () => change({ label: element("label").value }));
  on("truncation", "input", () => change({ truncation: Number(element("truncation").value) }));
  for (const id of ["rows", "columns"]) {
    on(id, "change", () => change({ canvas: [Number(element("rows").value), Number(element("columns").value)] }));
  }
  sliders.forEach((slider, direction) =>
    slider.addEventListener("input", () => move({ [direction]: Number(slider.value) - state.moves[direction] })));
  on("reset", "click", () => change({ moves: first.moves }));
  on("keep-a", "click", () => keep("a"));
  on("keep-b", "click", () => keep("b"));
  on("position", "input", () => walkTo(Number(element("position").value)));
  on("play", "click", play);
  on("leave", "click", () => change({ walk: null }));
  on("strength", "input", controls);
  on("neighbours", "click", showNeighbours);
  on("back", "click", () => change({ varied: state.varied.slice(0, -1) }).then(showNeighbours));
  on("save", "click", () => save().catch(fail));
  document.forms[0].addEventListener("submit", (event) => event.preventDefault());
  picture.addEventListener("pointerdown", (event) => picture.setPointerCapture(event.pointerId));
  picture.addEventListener("pointermove", (event) => {
    if (picture.hasPointerCapture(event.pointerId)) {
      move({ 0: event.movementX / PX_PER_DEVIATION, 1: -event.movementY / PX_PER_DEVIATION });
    }
  });
  picture.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1] }[event.key];
    if (!steps) return;
    event.preventDefault();
    move({ [steps[0]]: steps[1] * KEY_STEP });
  });
}

try {
  ort.env.wasm.numThreads = 1; // several need headers that a file has not
  ort.env.wasm.wasmBinary = await unpacked("runtime");
  session = await ort.InferenceSession.create(await unpacked("network"), { executionProviders: ["wasm"] });
  listen();
  document.querySelector("main").hidden = false;
  await update();
  element("status").textContent = "Ready.";
} catch (error) {
  fail(error);
}
