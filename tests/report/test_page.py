import dataclasses
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from flowinv.diagnostics.table import CHECKS
from flowinv.report.answer_section import answer_section
from flowinv.report.content import (
    ModelResult,
    ReportContent,
    load_content,
    save_content,
)
from flowinv.report.page import render_report, write_report
from flowinv.report.zoom import ZOOM

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Collects what the tests ask for and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_small(text):
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert len(text) < 8e6
    links = [a["href"][1:] for tag, a in page.attributes if tag == "a" and "href" in a]
    assert len(links) >= 6
    assert set(links) <= set(page.ids)


def test_page_needs_no_network(text):
    """The only addresses are names of XML dialects, which nothing loads."""
    addresses = set(re.findall(r'https?://[^"\s<]+', text))
    assert {a.split("/")[2] for a in addresses} <= {"www.w3.org"}
    assert text.count("<script>") == text.count("<script") == 1
    for word in ("fetch(", "XMLHttpRequest", "import("):
        assert word not in ZOOM
    assert "@import" not in text
    for tag, attributes in Page(text).attributes:
        assert tag not in {"link", "iframe"}
        source = attributes.get("src", attributes.get("xlink:href", "#"))
        assert source.startswith(("#", "data:")), source


def test_every_figure_has_a_text_alternative(text):
    figures = [a for tag, a in Page(text).attributes if tag == "svg"]
    assert len(figures) == text.count("<figure>") == 1 + 2 * 2 + 2 + 2 + 3 * 2
    for attributes in figures:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 10


def test_page_says_what_was_found(text):
    assert "<title>Beam profile &lt;test&gt;</title>" in text
    for words in (
        "cINN: 4 of 4 parameters trusted",
        "spline flow: 0 of 4 parameters trusted",
        "Too narrow",
        "C2ST (MLP)",
        "SBC χ² p",
        "erf fit",
        "prefers-color-scheme: dark",
        "@media print",
        "flowinv 0.1.0, jax 0.10.2",
    ):
        assert words in text, words


def test_the_first_screen_answers_its_reader(content, text):
    """Answer, interval, fit and verdict of every parameter; the next command."""
    first = text[text.index('id="answer"') : text.index('id="verdicts"')]
    observation = content.observations[0]
    assert observation.label in first
    assert "<b>cINN</b>" in first
    draws = content.models["cINN"].answers[observation.label].samples
    for d, name in enumerate(content.names):
        row = first[first.index(f">{name} (grid)<") :]
        row = row[: row.index("</tr>")]
        assert row.count("<td") == 5  # answer, interval, fit, truth, verdict
        answer = float(re.search(r">([\d.]+) ± ", row)[1])
        half = np.subtract(*np.quantile(draws[:, d], [0.84, 0.16])) / 2
        assert abs(answer - np.median(draws[:, d])) < 0.1 * half
        assert "<span>trusted</span>" in row
    assert "flowinv infer runs/test --x scan.csv" in first
    # A quantity derived from std_x stands below it, in its unit.
    row = first[first.index(">fwhm_x (um)<") :]
    answer = float(re.search(r">([\d.]+) ± ", row)[1])
    assert answer == pytest.approx(11.774 * np.median(draws[:, 2]), rel=0.01)
    assert first.count("<figure>") == 1


def test_a_scan_of_the_users_own_comes_first(sequential, rounds_text):
    begins, ends = map(rounds_text.index, ('id="answer"', 'id="verdicts"'))
    first = rounds_text[begins:ends]
    mine = sequential.observations[1]
    assert mine.theta_true is None
    assert mine.label in first
    assert "Inferred in rounds" in first
    assert "truth" not in first


def test_an_answer_of_two_ranges_says_so(small):
    """Of the first screen's observation, whose own answer here has one range each."""
    (name, model), *_ = small.models.items()
    (label, answer), *_ = model.answers.items()
    assert "next to nothing between" not in answer_section(small)
    rng = np.random.default_rng(0)
    draws = rng.normal(30.0, 1.0, (4_000, len(small.names)))
    draws[:, 1] += 20.0 * (rng.uniform(size=4_000) < 0.5)
    answers = {label: dataclasses.replace(answer, samples=np.float32(draws))}
    model = dataclasses.replace(model, answers=answers)
    found = answer_section(dataclasses.replace(small, models={name: model}))
    assert found.count("next to nothing between") == 1
    assert f"<p>{small.names[1]} is 28." in found


def test_page_shows_rounds_only_where_there_are_some(text, rounds_text):
    assert "Round by round" in rounds_text
    assert "Round by round" not in text


def test_same_content_same_page(small, tmp_path):
    """Also after a round trip through the run folder."""
    save_content(small, tmp_path / "c.npz")
    write_report(load_content(tmp_path / "c.npz"), tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written == render_report(small)
    assert not (tmp_path / "report.html.part").exists()


def test_missing_parts_are_left_out(content):
    empty = ReportContent("nothing", ("a",), ("",))
    assert Page(render_report(empty)).tags.count("section") == 0
    trained = ModelResult(history={"train_loss": np.array([2.0, 1.0])})
    page = render_report(dataclasses.replace(empty, models={"m": trained}))
    assert "unchecked" in page
    assert 'id="training"' in page
    assert 'id="calibration"' not in page
    bare = dataclasses.replace(
        content.observations[0], theta_true=None, exact=None, fit=None, layout=None
    )
    answers = {bare.label: content.models["cINN"].answers[bare.label]}
    answer = dataclasses.replace(answers[bare.label], predictive=None)
    measured = dataclasses.replace(
        content,
        observations=(bare,),
        models={"cINN": ModelResult(answers={bare.label: answer})},
    )
    page = render_report(measured)
    Page(page)
    for absent in ("C2ST", "exact posterior</td>", "(grey)", "truth</td>", "erf fit"):
        assert absent not in page, absent


def test_ten_observations_stay_below_the_size_limit(text):
    """Ten scans of 400 numbers and two flows: the page of the beam study."""
    part = text[text.index('id="observations"') : text.index('id="scores"')]
    folds = re.findall("<details.*?</details>", part, flags=re.DOTALL)
    assert len(folds) == 3
    rest = len(text) - sum(map(len, folds))
    assert rest + 10 * max(map(len, folds)) < 8e6


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_page(text, tmp_path, scheme):
    """Ground and ink follow the preferred scheme; the page is not blank."""
    from matplotlib.image import imread

    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    command = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
        *("--disable-background-networking", "--disable-sync"),
        *("--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"),
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}",
        *("--window-size=1100,3000", f"--screenshot={tmp_path / 'page.png'}"),
        (tmp_path / "report.html").as_uri(),
    ]
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run(
        command, check=True, capture_output=True, timeout=60, env=environment
    )
    picture = imread(tmp_path / "page.png")[..., :3].mean(-1)
    assert picture.shape == (3000, 1100)
    assert (picture[2, 2] > 0.5) == (scheme == "light")
    assert 0.02 < (np.abs(picture - picture[2, 2]) > 0.3).mean() < 0.5


def test_every_number_of_every_check_is_on_the_page(small, monkeypatch):
    """Also those of a check that the page has never heard of."""
    mine = CHECKS[0]._replace(name="mine", asks="Is it new?")
    monkeypatch.setattr("flowinv.report.page.CHECKS", (*CHECKS, mine))
    model = small.models["cINN"]
    numbers = {
        **model.results.numbers,
        "mine": {"new_number": np.array([7.125] * 4)},
    }
    results = dataclasses.replace(model.results, numbers=numbers)
    models = {"cINN": dataclasses.replace(model, results=results)}
    page = render_report(dataclasses.replace(small, models=models))
    part = page[page.index('id="numbers"') :]
    assert part.count(">7.12<") == 4
    for check, found in numbers.items():
        assert f"cINN, {check}:" in part
        for what in found:
            assert f">{what}<" in part, what
