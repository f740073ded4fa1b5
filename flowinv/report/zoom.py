"""The page's only script: figures that can be looked at closely.

Double click, or + and - on a focused figure, zooms; dragging or the arrow keys move a
zoomed one; Escape shows it whole again. In a pair plot the pointer's parameters are
marked in every panel that has them. Without scripts, and in print, figures are whole.
"""

__all__ = ["ZOOM"]

ZOOM = """
for (const svg of document.querySelectorAll("figure > svg")) {
  const whole = svg.getAttribute("viewBox").split(" ").map(Number);
  let box = whole.slice(), from = null;
  const show = () => {
    svg.setAttribute("viewBox", box.join(" "));
    svg.style.cursor = box[2] < whole[2] ? "grab" : "zoom-in";
  };
  const keep = (value, low, high) => Math.min(Math.max(value, low), high);
  const zoom = (factor, x = 0.5, y = 0.5) => {
    const size = keep(box[2] / factor, whole[2] / 16, whole[2]) / whole[2];
    const left = box[0] + x * box[2], top = box[1] + y * box[3];
    box = [0, 0, size * whole[2], size * whole[3]];
    move(left - x * box[2], top - y * box[3]);
  };
  const move = (left, top) => {
    box[0] = keep(left, whole[0], whole[0] + whole[2] - box[2]);
    box[1] = keep(top, whole[1], whole[1] + whole[3] - box[3]);
    show();
  };
  const place = (event) => {
    const area = svg.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width,
      (event.clientY - area.top) / area.height];
  };
  const panels = JSON.parse(svg.dataset.panels || "[]");
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "path");
  if (panels.length) {
    mark.setAttribute("style", "stroke: var(--ink); stroke-width: 0.6; fill: none; " +
      "stroke-dasharray: 3 2; pointer-events: none");
    svg.append(mark);
  }
  const link = (event) => {
    const [u, v] = place(event), x = box[0] + u * box[2], y = box[1] + v * box[3];
    const own = panels.find(([, , left, top, width, height]) => x >= left &&
      x <= left + width && y >= top && y <= top + height);
    let path = "";
    if (own) {
      const [i, j, left, top, width, height, x0, x1, y0, y1] = own, known = {};
      known[j] = x0 + (x - left) / width * (x1 - x0);
      if (i !== j) known[i] = y1 - (y - top) / height * (y1 - y0);
      for (const [i, j, left, top, width, height, x0, x1, y0, y1] of panels) {
        const across = (known[j] - x0) / (x1 - x0), up = (known[i] - y0) / (y1 - y0);
        if (across >= 0 && across <= 1)
          path += `M${left + across * width} ${top}v${height}`;
        if (i !== j && up >= 0 && up <= 1)
          path += `M${left} ${top + (1 - up) * height}h${width}`;
      }
    }
    mark.setAttribute("d", path);
  };
  if (panels.length) {
    svg.addEventListener("pointermove", link);
    svg.addEventListener("pointerleave", () => mark.setAttribute("d", ""));
  }
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("dblclick", (event) => {
    event.preventDefault();
    zoom(event.shiftKey ? 0.5 : 2, ...place(event));
  });
  svg.addEventListener("pointerdown", (event) => {
    if (box[2] < whole[2]) from = [place(event), box.slice()];
  });
  svg.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const [x, y] = place(event), [[x0, y0], old] = from;
    move(old[0] - (x - x0) * box[2], old[1] - (y - y0) * box[3]);
  });
  for (const name of ["pointerup", "pointerleave"])
    svg.addEventListener(name, () => { from = null; });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1],
      ArrowDown: [0, 1] }[event.key];
    if (event.key === "+" || event.key === "=") zoom(2);
    else if (event.key === "-") zoom(0.5);
    else if (event.key === "Escape") zoom(1e-9);
    else if (step && box[2] < whole[2])
      move(box[0] + step[0] * box[2] / 8, box[1] + step[1] * box[3] / 8);
    else return;
    event.preventDefault();
  });
  show();
}
window.addEventListener("beforeprint", () => {
  for (const svg of document.querySelectorAll("figure > svg"))
    svg.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
});
"""
