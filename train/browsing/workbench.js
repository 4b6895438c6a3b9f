"use strict";
const at = id => document.getElementById(id);
const PER_PAGE = 24, ABSENT = 255, LEVELS = 254;
let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;

/* A run's line and bars are shown while its switch is on. */
for (const box of document.querySelectorAll("[data-switch]"))
  box.addEventListener("change", () => {
    for (const drawn of document.querySelectorAll(`[data-run="${box.dataset.switch}"]`)) drawn.classList.toggle("off", !box.checked);
  });

if (at("data")) {
  const data = JSON.parse(at("data").textContent);
  const filters = ["dataset", "class", "subset", "subject", "run", "outcome", "predicted"];
  const evaluated = data.runs.map((_, r) => data.clips.some(clip => clip.outcomes[r]));
  const seen = { yaw: 0.5, pitch: 0.25 };
  const canvases = new Map();  // of the page of cards: canvas to clip
  let found = [], first = 0, large = null, started = performance.now(), still = 0.5, theme = {};

  const className = clip => data.datasets[clip.dataset].classes[clip.label] || "";
  const predictedName = (clip, r) => {
    const names = data.runs[r].classes, label = clip.outcomes[r][0];
    return names[label] || `class ${label}`;
  };
  const chosenRuns = () => at("by-run").value === "" ? data.runs.map((_, r) => r) : [Number(at("by-run").value)];

  function outcomeWords(clip) {
    return data.runs.map((run, r) => [run, r]).filter(([, r]) => clip.outcomes[r]).map(([run, r]) => ({
      wrong: clip.outcomes[r][1], run: run.name,
      text: clip.outcomes[r][1] ? `predicted as ${predictedName(clip, r)}` : "recognised",
    }));
  }

  /* The value of a clip for each filter; an outcome has several. */
  function valuesOf(clip, name) {
    if (name === "dataset") return [data.datasets[clip.dataset].name];
    if (name === "class") return [className(clip)];
    if (name === "subset") return [data.subsets[clip.subset]];
    if (name === "subject") return [clip.subject];
    const known = chosenRuns().filter(r => clip.outcomes[r]);
    if (name === "run") return [""];
    if (name === "outcome") return known.length
      ? [...new Set(known.map(r => clip.outcomes[r][1] ? "mistaken" : "recognised"))] : ["not evaluated"];
    return known.map(r => predictedName(clip, r));
  }

  const byNumber = new Intl.Collator("en", { numeric: true });
  function fill(name) {
    const counts = new Map(), select = at("by-" + name), before = select.value;
    const options = [];
    if (name === "run") data.runs.forEach((run, r) => evaluated[r] && options.push([String(r), run.name]));
    else {
      for (const clip of data.clips) for (const value of valuesOf(clip, name)) counts.set(value, (counts.get(value) || 0) + 1);
      for (const value of [...counts.keys()].sort(byNumber.compare))
        if (value !== "") options.push([value, `${value} (${counts.get(value)})`]);
    }
    const all = name === "run" ? "any run" : "all";
    select.replaceChildren(...[["", all], ...options].map(([value, text]) => new Option(text, value)));
    select.value = options.some(([value]) => value === before) ? before : "";
    at("with-" + name).hidden = options.length < 2 && !(name === "predicted" && options.length);
  }

  function search() {
    const part = at("by-id").value.trim().toLowerCase();
    const wanted = filters.filter(name => name !== "run" && at("by-" + name).value !== "").map(name => [name, at("by-" + name).value]);
    const run = at("by-run").value;
    found = data.clips.filter(clip => wanted.every(([name, value]) => valuesOf(clip, name).includes(value))
      && (run === "" || clip.outcomes[Number(run)])
      && (!part || clip.id.toLowerCase().includes(part) || className(clip).toLowerCase().includes(part)));
    show(0);
  }

  function show(from) {
    first = from;
    canvases.clear();
    const cards = found.slice(from, from + PER_PAGE).map(clip => {
      const card = document.createElement("button"), canvas = document.createElement("canvas");
      card.type = "button";
      card.className = "shown";
      canvas.setAttribute("aria-hidden", "true");
      canvases.set(canvas, clip);
      const add = (tag, text, kind) => card.append(Object.assign(document.createElement(tag), { textContent: text, className: kind || "" }));
      card.append(canvas);
      add("b", className(clip) || clip.id);
      if (className(clip)) add("span", clip.id);
      add("span", [data.subsets[clip.subset], clip.subject && `subject ${clip.subject}`].filter(Boolean).join(", "));
      const outcomes = outcomeWords(clip), wrong = outcomes.filter(each => each.wrong);
      for (const text of new Set(wrong.map(each => each.text))) add("span", text, "wrong");
      if (outcomes.length && !wrong.length) add("span", "recognised");
      card.addEventListener("click", () => open(clip));
      return card;
    });
    at("grid").replaceChildren(...cards);
    const last = Math.min(first + PER_PAGE, found.length);
    at("count").textContent = `${found.length} of the ${data.clips.length} clips on this page fit the filters.`;
    at("page").textContent = found.length ? `${first + 1} to ${last} of ${found.length}` : "no clip";
    at("back").disabled = first === 0;
    at("on").disabled = last >= found.length;
    drawAll(true);
  }

  /* A clip's poses, decoded when they are first drawn. */
  function posesOf(clip) {
    if (typeof clip.poses === "string") clip.poses = Uint8Array.from(atob(clip.poses), letter => letter.charCodeAt(0));
    return clip.poses;
  }

  /* Draw a clip at a part, 0 to 1, of its time. */
  function draw(canvas, clip, part) {
    const dots = window.devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
    if (!width) return;
    const [w, h] = [Math.round(width * dots), Math.round(height * dots)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d"), { flat, bones, colours } = data.datasets[clip.dataset];
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.clearRect(0, 0, width, height);
    const joints = colours.length, poses = posesOf(clip);
    const yaw = flat && canvas !== at("large") ? 0 : seen.yaw, pitch = flat && canvas !== at("large") ? 0 : seen.pitch;
    const [c, s, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const [sx, sy, sz] = clip.size, side = flat ? 1 : -1;
    const across = Math.abs(c) * sx + Math.abs(s) * sz, deep = Math.abs(s) * sx + Math.abs(c) * sz;
    const scale = 0.86 * Math.min(width / Math.max(across, 0.3), height / Math.max(Math.abs(cp) * sy + Math.abs(sp) * deep, 0.3));
    const project = (x, y, z) => {
      const u = side * (x - sx / 2), v = y - sy / 2, n = side * (z - sz / 2), near = n * c - u * s;
      return [width / 2 + scale * (u * c + n * s), height / 2 - scale * (v * cp - near * sp)];
    };
    if (!flat) {
      context.beginPath();
      for (const [x, z] of [[0, 0], [sx, 0], [sx, sz], [0, sz]]) context.lineTo(...project(x, 0, z));
      context.closePath();
      Object.assign(context, { fillStyle: theme.line, globalAlpha: 0.5 });
      context.fill();
      context.globalAlpha = 1;
    }
    const time = part * (clip.frames - 1), before = Math.floor(time), after = Math.min(before + 1, clip.frames - 1);
    context.lineCap = "round";
    for (let body = 0; body < clip.bodies; body++) {
      const a = (body * clip.frames + before) * joints * 3, b = (body * clip.frames + after) * joints * 3;
      if (poses[a] === ABSENT) continue;
      const share = poses[b] === ABSENT ? 0 : time - before;
      const spots = [];
      for (let v = 0; v < joints; v++) {
        const value = i => (poses[a + 3 * v + i] * (1 - share) + poses[b + 3 * v + i] * share) / LEVELS;
        spots.push(project(value(0), value(1), value(2)));
      }
      context.lineWidth = Math.max(1.5, width / (body ? 90 : 60));
      context.setLineDash(body ? [width / 40, width / 60] : []);
      for (const [child, parent] of bones) {
        context.strokeStyle = colours[child];
        context.beginPath();
        context.moveTo(...spots[parent]);
        context.lineTo(...spots[child]);
        context.stroke();
      }
    }
  }

  const visible = new Set();
  const watcher = new IntersectionObserver(entries => entries.forEach(({ target, isIntersecting }) =>
    isIntersecting ? visible.add(target) : visible.delete(target)), { rootMargin: "100px" });

  /* Clips play forward at their rate, with a short pause at the end. */
  function partOf(clip, now) {
    const seconds = clip.stored / data.rate;
    return Math.min(1, ((now - started) / 1000 % (seconds + 0.4)) / seconds);
  }

  function drawAll(fresh) {
    const style = getComputedStyle(document.documentElement);
    theme = { line: style.getPropertyValue("--line") };
    if (fresh) {
      watcher.disconnect();
      visible.clear();
      for (const canvas of canvases.keys()) watcher.observe(canvas);
    }
    const now = performance.now();
    for (const [canvas, clip] of canvases) draw(canvas, clip, paused ? 0.5 : partOf(clip, now));
    if (large) draw(at("large"), large, still);
  }

  let playing = !paused;
  function step(now) {
    if (!paused && !large) for (const canvas of visible) if (canvases.has(canvas)) draw(canvas, canvases.get(canvas), partOf(canvases.get(canvas), now));
    if (large && playing) {
      still = partOf(large, now);
      at("moment").value = still;
      draw(at("large"), large, still);
    }
    requestAnimationFrame(step);
  }

  function play(on) {
    playing = on;
    at("play").textContent = on ? "Pause" : "Play";
    if (on) started = performance.now() - 1000 * still * large.stored / data.rate;
  }

  function open(clip) {
    large = clip;
    still = paused ? 0.5 : 0;
    const facts = [["clip", clip.id], ["dataset", data.datasets[clip.dataset].name], ["subset", data.subsets[clip.subset]],
      ["subject", clip.subject], ["bodies", String(clip.bodies)], ...outcomeWords(clip).map(each => [each.run, each.text, each.wrong])];
    at("large-title").textContent = className(clip) || clip.id;
    at("large-facts").replaceChildren(...facts.filter(([, text]) => text).map(([name, text, wrong]) => {
      const row = document.createElement("div");
      row.append(Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: text, className: wrong ? "wrong" : "" }));
      return row;
    }));
    const place = found.indexOf(clip);
    at("earlier").disabled = place <= 0;
    at("later").disabled = place >= found.length - 1;
    if (!at("window").open) {
      seen.yaw = 0.5;
      seen.pitch = 0.25;
      if (data.datasets[clip.dataset].flat) seen.yaw = seen.pitch = 0;
      at("window").showModal();
      at("large").focus();
    }
    at("moment").value = still;
    play(!paused);
    draw(at("large"), clip, still);
  }

  const move = by => {
    const place = found.indexOf(large) + by;
    if (place < 0 || place >= found.length) return;
    if (place < first || place >= first + PER_PAGE) show(PER_PAGE * Math.floor(place / PER_PAGE));
    open(found[place]);
  };
  const look = (yaw, pitch) => {
    Object.assign(seen, { yaw, pitch: Math.min(Math.PI / 2, Math.max(-Math.PI / 2, pitch)) });
    draw(at("large"), large, still);
  };
  at("large").addEventListener("pointerdown", event => at("large").setPointerCapture(event.pointerId));
  at("large").addEventListener("pointermove", event => {
    if (event.buttons) look(seen.yaw + event.movementX * 0.01, seen.pitch + event.movementY * 0.01);
  });
  at("window").addEventListener("keydown", event => {
    const inside = document.activeElement === at("large");
    const turn = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (turn && inside) look(seen.yaw + turn[0], seen.pitch + turn[1]);
    else if (event.key === " " && inside) play(!playing);
    else if (event.key === "n" || event.key === "p") move(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
  });
  at("window").addEventListener("close", () => {
    const card = at("grid").children[found.indexOf(large) - first];
    large = null;
    seen.yaw = 0.5;
    seen.pitch = 0.25;
    drawAll();
    if (card) card.focus();
  });
  at("play").addEventListener("click", () => play(!playing));
  at("earlier").addEventListener("click", () => move(-1));
  at("later").addEventListener("click", () => move(1));
  at("close").addEventListener("click", () => at("window").close());
  at("moment").addEventListener("input", () => {
    play(false);
    still = Number(at("moment").value);
    draw(at("large"), large, still);
  });

  at("filters").addEventListener("submit", event => event.preventDefault());
  for (const name of filters) at("by-" + name).addEventListener("change", () => {
    if (name === "run") for (const other of ["outcome", "predicted"]) fill(other);
    search();
  });
  at("by-id").addEventListener("input", search);
  at("reset").addEventListener("click", () => {
    for (const name of filters) at("by-" + name).value = "";
    at("by-id").value = "";
    filters.forEach(fill);
    search();
  });
  at("back").addEventListener("click", () => show(Math.max(0, first - PER_PAGE)));
  at("on").addEventListener("click", () => show(first + PER_PAGE));
  at("still").hidden = false;
  const button = () => {
    at("still").textContent = paused ? "Play the clips" : "Pause the clips";
    at("still").setAttribute("aria-pressed", paused);
  };
  at("still").addEventListener("click", () => { paused = !paused; button(); drawAll(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  new ResizeObserver(() => drawAll()).observe(at("grid"));
  button();
  filters.forEach(fill);
  search();
  requestAnimationFrame(step);
}
