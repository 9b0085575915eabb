// The page of a run: artworks opened large with a zoom, the training's grids as a film, and the stages' times.
"use strict";

const element = (id) => document.getElementById(id);
const dialog = element("large");
const links = [...document.querySelectorAll("a.artwork")];
let current = 0;
let viewer = null;

// OpenSeadragon is loaded when it is first used, so that the page opens quickly.
function openSeadragon() {
  if (window.OpenSeadragon) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "openseadragon.min.js";
    script.onload = resolve;
    script.onerror = () => reject(new Error("openseadragon.min.js is missing beside this page"));
    document.head.append(script);
  });
}

async function zoom(tileSource) {
  await openSeadragon();
  viewer?.destroy();
  viewer = OpenSeadragon({
    element: element("zoom"),
    tileSources: tileSource,
    drawer: "canvas", // the others read pixels back, which a page from file:// may not
    showNavigationControl: false,
    crossOriginPolicy: false,
    maxZoomPixelRatio: 8,
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
  });
}

function open(number) {
  current = (number + links.length) % links.length;
  const { href, dataset } = links[current];
  element("large-name").textContent = dataset.name;
  element("large-recipe").textContent = dataset.recipe;
  element("large-size").textContent = dataset.size;
  element("large-command").textContent = dataset.command;
  element("large-picture").hidden = !!dataset.tiles;
  if (!dataset.tiles) element("large-picture").src = href;
  element("large-picture").alt = dataset.recipe;
  element("large-file").href = href;
  const zoomed = dataset.print || dataset.tiles;
  element("large-print").hidden = !zoomed;
  element("large-print-file").href = dataset.print ?? href;
  element("large-enlargement").textContent = dataset.print ? `Print, ${dataset.enlargement}.` : "";
  if (!dialog.open) dialog.showModal();
  if (zoomed) {
    const source = dataset.tiles ? JSON.parse(dataset.tiles) : { type: "image", url: dataset.print };
    zoom(source).catch((error) => (element("large-enlargement").textContent = error.message));
  }
}

links.forEach((link, number) =>
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window, as for any link
    event.preventDefault();
    open(number);
  }));
element("large-previous").addEventListener("click", () => open(current - 1));
element("large-next").addEventListener("click", () => open(current + 1));
dialog.addEventListener("keydown", (event) => {
  if (element("zoom").contains(event.target)) return;
  if (event.key === "ArrowLeft") open(current - 1);
  if (event.key === "ArrowRight") open(current + 1);
});
dialog.addEventListener("close", () => {
  viewer?.destroy();
  viewer = null;
  links[current].focus();
});

const film = element("film");
film?.addEventListener("input", () => {
  const { file, kimg } = JSON.parse(film.dataset.grids)[film.value];
  element("grid").src = file;
  element("grid-kimg").textContent = kimg;
});

// Times are in a file outside the page, if it is there: they differ from run to run, and the page must not.
for (const { name, seconds, cached } of window.atelierRun ?? []) {
  const row = document.querySelector(`[data-stage="${CSS.escape(name)}"] em`);
  const words = [...(seconds == null ? [] : [`${seconds.toFixed(1)} s`]), ...(cached ? ["cached"] : [])];
  if (row) row.textContent = words.join(", ");
}
