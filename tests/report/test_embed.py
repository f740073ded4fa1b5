import html
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from flowinv.report.embed import embed_figure
from flowinv.report.posterior_plots import pair_plot


def drawing(title="a < b"):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axis = figure.subplots()
    axis.set_title(title + " 0.123456", color="#1f2328")
    axis.plot([0, 1], [1 / 3, 2 / 3], color="#0072b2")
    axis.scatter([0, 1], [0, 1], rasterized=True)
    return figure


def test_same_figure_same_bytes():
    assert embed_figure(drawing(), "a", "x") == embed_figure(drawing(), "a", "x")


def test_ids_and_references_carry_the_name():
    svg = embed_figure(drawing(), "fig-1", "x")
    ids = set(re.findall(r'\bid="([^"]*)"', svg))
    used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg))
    assert all(name.startswith("fig-1-") for name in ids)
    assert {a or b for a, b in used} <= ids


def test_colours_follow_the_theme_and_text_stays_text():
    svg = embed_figure(drawing(), "f", 'say "hi" & <bye>')
    assert "#1f2328" not in svg
    assert "var(--ink)" in svg
    assert "var(--series-0)" in svg
    assert "a &lt; b 0.123456" in svg
    assert 'aria-label="say &quot;hi&quot; &amp; &lt;bye&gt;"' in svg


def test_coordinates_are_short_and_scatter_is_a_picture():
    svg = embed_figure(drawing(), "f", "x")
    for path in re.findall(r'\sd="([^"]*)"', svg):
        assert not re.search(r"\.\d{3}", path)
    assert "data:image/png;base64," in svg
    assert svg.startswith("<svg role=")
    assert svg.endswith("</svg>")


def test_panels_of_a_pair_plot_know_their_parameters():
    """Their places in points of the picture, and the limits of what they show."""
    rng = np.random.default_rng(0)
    figure = pair_plot({"a": rng.normal(size=(300, 3))}, ("x", "y", "z"), ("", "", ""))
    svg = embed_figure(figure, "pairs", "all pairs")
    panels = json.loads(html.unescape(re.search('data-panels="([^"]*)"', svg)[1]))
    assert [p[:2] for p in panels] == [[i, j] for i in range(3) for j in range(i + 1)]
    width, height = map(float, re.search('viewBox="0 0 (.*?) (.*?)"', svg).groups())
    for (i, j, left, top, across, down, *limits), axis in zip(
        panels, (a for a in figure.axes if a.get_gid()), strict=True
    ):
        assert 0 < left < left + across < width
        assert 0 < top < top + down < height
        assert limits == pytest.approx([*axis.get_xlim(), *axis.get_ylim()], rel=1e-5)
        # A row's panels stand side by side, a column's below each other.
        assert top == pytest.approx(next(p[3] for p in panels if p[0] == i), abs=1)
        assert left == pytest.approx(next(p[2] for p in panels if p[1] == j), abs=1)
    plain = embed_figure(Figure(), "plain", "nothing")
    assert "data-panels" not in plain
