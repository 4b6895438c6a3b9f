"use strict";
/* Describe the cell of the confusion matrix under the pointer. */
const matrix = document.querySelector(".matrix");
if (matrix) {
  const { names, counts } = JSON.parse(document.getElementById("matrix").textContent);
  const output = document.getElementById("cell"), marker = matrix.querySelector(".marker");
  const { left, top, size } = matrix.dataset;
  matrix.addEventListener("pointermove", event => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.getScreenCTM().inverse());
    const cell = size / names.length;
    const column = Math.floor((point.x - left) / cell), row = Math.floor((point.y - top) / cell);
    const inside = row in names && column in names;
    marker.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) return;
    marker.setAttribute("x", Number(left) + column * cell);
    marker.setAttribute("y", Number(top) + row * cell);
    const clips = counts[row].reduce((a, b) => a + b, 0), count = counts[row][column];
    const share = clips ? ` (${(100 * count / clips).toFixed(1)} %)` : "";
    output.textContent = row === column ? `${names[row]}: ${count} of ${clips} correct${share}`
      : `${names[row]} predicted as ${names[column]}: ${count} of ${clips} clips${share}`;
  });
}
/* Clips pause if the system asks for reduced motion, and when the button is pressed. */
const clips = document.querySelectorAll("svg.clip"), still = document.getElementById("still");
if (clips.length) {
  let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const update = () => {
    for (const clip of clips) paused ? clip.pauseAnimations() : clip.unpauseAnimations();
    still.textContent = paused ? "Play the clips" : "Pause the clips";
    still.setAttribute("aria-pressed", paused);
  };
  still.hidden = false;
  still.addEventListener("click", () => { paused = !paused; update(); });
  update();
}
