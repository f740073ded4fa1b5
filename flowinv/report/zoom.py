"""The page's only script: figures that can be looked at closely.

Double click, or + and - on a focused figure, zooms; dragging or the arrow keys move a
zoomed one; Escape shows it whole again. It changes the viewBox of SVGs and nothing
else: without scripts, and in print, figures are whole.
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
