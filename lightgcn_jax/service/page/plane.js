"use strict";
// The map: points on a canvas, by mouse, touch and arrow keys.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const MARGIN = 16;

function drawPlane(plane, chosen) {
  const canvas = document.getElementById("map");
  const named = document.getElementById("map-item");
  document.getElementById("map-how").textContent = plane.how;
  canvas.hidden = !plane.points.length;
  if (!plane.points.length) return;
  const groups = document.getElementById("map-groups");
  groups.replaceChildren(...plane.groups.map((name, at) => {
    const line = document.createElement("li");
    const dot = document.createElement("span");
    dot.className = `dot dot${at % 8}`;
    const text = document.createElement("span");
    text.textContent = name;
    line.append(dot, text);
    return line;
  }));
  let current = -1;
  const pen = canvas.getContext("2d");

  function placed(point) {
    const width = canvas.clientWidth - 2 * MARGIN;
    const height = canvas.clientHeight - 2 * MARGIN;
    return [MARGIN + ((point.x + 1) / 2) * width, MARGIN + ((1 - point.y) / 2) * height];
  }

  function paint() {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const colours = Array.from({ length: 8 }, (_, at) => style.getPropertyValue(`--g${at}`));
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    pen.globalAlpha = 0.75;
    for (const point of plane.points) {
      const [x, y] = placed(point);
      pen.fillStyle = colours[point.group % 8];
      pen.beginPath();
      pen.arc(x, y, 3, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
    if (current < 0) return;
    const [x, y] = placed(plane.points[current]);
    pen.strokeStyle = style.getPropertyValue("--ink");
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, 7, 0, 2 * Math.PI);
    pen.stroke();
  }

  function go(to) {
    if (to < 0 || to === current) return;
    current = to;
    const point = plane.points[to];
    named.textContent = `${point.title ?? point.id} (${plane.groups[point.group]})`;
    paint();
  }

  function nearest(event) {
    const frame = canvas.getBoundingClientRect();
    const at = [event.clientX - frame.left, event.clientY - frame.top];
    let best = -1;
    let least = 24 ** 2;
    plane.points.forEach((point, place) => {
      const [x, y] = placed(point);
      const away = (x - at[0]) ** 2 + (y - at[1]) ** 2;
      if (away < least) [best, least] = [place, away];
    });
    return best;
  }

  // The next point in a direction: near, and not far to the side.
  function beyond([right, up]) {
    const from = plane.points[Math.max(current, 0)];
    let best = -1;
    let least = Infinity;
    plane.points.forEach((point, place) => {
      const along = (point.x - from.x) * right + (point.y - from.y) * up;
      const aside = Math.abs((point.x - from.x) * up) + Math.abs((point.y - from.y) * right);
      if (place !== current && along > 0 && along + 3 * aside < least) {
        [best, least] = [place, along + 3 * aside];
      }
    });
    return best;
  }

  canvas.addEventListener("pointermove", (event) => go(nearest(event)));
  canvas.addEventListener("click", (event) => {
    go(nearest(event));
    if (current >= 0) chosen(plane.points[current]);
  });
  canvas.addEventListener("focus", () => go(Math.max(current, 0)));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && current >= 0) chosen(plane.points[current]);
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    go(beyond(ARROWS[event.key]));
  });
  window.addEventListener("resize", paint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  paint();
}
