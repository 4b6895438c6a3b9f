"use strict";
/* The cell of the confusion matrix under the pointer, in words. */
const matrix = document.querySelector(".matrix");
if (matrix) {
  const { names, counts } = JSON.parse(document.getElementById("matrix").textContent);
  const said = document.getElementById("cell"), marker = matrix.querySelector(".marker");
  const { left, top, side } = matrix.dataset;
  matrix.addEventListener("pointermove", event => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.getScreenCTM().inverse());
    const cell = side / names.length;
    const column = Math.floor((point.x - left) / cell), row = Math.floor((point.y - top) / cell);
    const inside = row in names && column in names;
    marker.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) return;
    marker.setAttribute("x", Number(left) + column * cell);
    marker.setAttribute("y", Number(top) + row * cell);
    const clips = counts[row].reduce((a, b) => a + b, 0), count = counts[row][column];
    const share = clips ? ` (${(100 * count / clips).toFixed(1)} %)` : "";
    said.textContent = row === column ? `${names[row]}: ${count} of ${clips} right${share}`
      : `${names[row]} taken for ${names[column]}: ${count} of ${clips} clips${share}`;
  });
}
/* All clips stand still where motion is unwanted, and at the press of a button. */
const clips = document.querySelectorAll("svg.clip"), still = document.getElementById("still");
if (clips.length) {
  let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const settle = () => {
    for (const clip of clips) paused ? clip.pauseAnimations() : clip.unpauseAnimations();
    still.textContent = paused ? "Play the clips" : "Pause the clips";
    still.setAttribute("aria-pressed", paused);
  };
  still.hidden = false;
  still.addEventListener("click", () => { paused = !paused; settle(); });
  settle();
}
