"""A matplotlib figure as inline SVG that follows the page's light or dark colours."""

import contextlib
import html
import io
import json
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from flowinv.report.style import GRID, INK, MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PAIR", "embed_figure", "figures_kept"]

PAIR = "pair"
"""Panels called pair-i-j share the parameters i (across) and j (along)."""

RASTER_DPI = 160
"""Resolution of the rasterised scatter inside an SVG."""

THEMED = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"} | {
    color: f"var(--series-{index})" for index, color in enumerate(SERIES)
}
"""Colours that become CSS variables, so that one figure serves both grounds."""

_kept: ContextVar["dict[str, Figure] | None"] = ContextVar("kept", default=None)

_PATH = re.compile(r'\s(?:d|x|y)="[^"]*"')
_LONG_DECIMAL = re.compile(r"(\.\d\d)\d+")
"""Coordinates in points are cut after 0.01, which takes a third off the page."""


@contextlib.contextmanager
def figures_kept() -> Iterator["dict[str, Figure]"]:
    """Keep the figures that are embedded meanwhile, by name."""
    figures: dict[str, Figure] = {}
    token = _kept.set(figures)
    try:
        yield figures
    finally:
        _kept.reset(token)


def embed_figure(figure: "Figure", name: str, alt: str) -> str:
    """Return `figure` as an HTML `<svg>` element with a text alternative.

    The same figure gives the same bytes.

    Args:
        figure: built with the styles of `report.style`.
        name: distinct on its page, of letters, digits and dashes; keeps the ids of
            several SVGs in one page apart.
        alt: what the figure shows, for readers who cannot see it.
    """
    import matplotlib

    if (kept := _kept.get()) is not None:
        kept[name] = figure
    # Laid out here, or matplotlib would draw everything twice to find the layout.
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            dpi=RASTER_DPI,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _PATH.sub(lambda path: _LONG_DECIMAL.sub(r"\1", path[0]), svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for color, variable in THEMED.items():
        svg = svg.replace(color, variable)
    width, height = (72 * inches for inches in figure.get_size_inches())
    panels = _panels(figure, width, height)
    linked = f' data-panels="{html.escape(json.dumps(panels))}"' if panels else ""
    head = (
        f'<svg role="img" aria-label="{html.escape(alt)}"{linked} '
        f'style="width:100%;max-width:{width * 4 / 3:.0f}px;height:auto" '
        f'viewBox="0 0 {width:g} {height:g}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + svg[svg.index(">") + 1 :].strip()


def _panels(figure: "Figure", width: float, height: float) -> list[list[float]]:
    """Panels of a pair plot: i, j, left, top, width, height, and limits of x and y.

    Places are in points of the picture; a marginal, i = j, has no second parameter.
    """
    found = []
    for axis in figure.axes:
        kind, *numbers = (axis.get_gid() or "").split("-")
        if kind != PAIR:
            continue
        box = axis.get_position()
        place = [
            *(box.x0 * width, (1 - box.y1) * height),
            *(box.width * width, box.height * height),
        ]
        limits = [*axis.get_xlim(), *axis.get_ylim()]
        own = [float(f"{number:.6g}") for number in (*place, *limits)]
        found.append([*map(int, numbers), *own])
    return found
