import math

import pytest

from flowinv.report.meanings import METRICS
from flowinv.report.tables import (
    meanings,
    number,
    p_value,
    percent,
    table,
    to_precision,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.53, "0.530"),
        (-0.3, "−0.300"),
        (100.0, "100"),
        (12345.0, "12,300"),
        (1.5e-12, "1.50e−12"),
        (0, "0.00"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (58.21834, 0.0251, "58.218"),
        (58.21834, 3.1, "58.2"),
        (5821.834, 310, "5822"),
        (-0.5, 0.02, "−0.500"),
        (3.14159, math.nan, "3.142"),
        (3.14159, 0.0, "3.142"),
        (math.nan, 1.0, "–"),
    ],
)
def test_to_precision(value, error, text):
    assert to_precision(value, error) == text


def test_percent_and_p_value():
    assert percent(0.9) == "90.0 %"
    assert percent(None) == "–"
    assert p_value(0.0312) == "0.031"
    assert p_value(1e-40) == "< 0.0001"


def test_table_escapes_and_heads_rows():
    text = table(["<a>", "b"], [["x & y", "1"]], "caption")
    assert "&lt;a&gt;" in text
    assert '<th scope="row">x &amp; y</th>' in text
    assert '<td class="n">1</td>' in text


def test_every_meaning_is_one_sentence():
    for name, meaning in METRICS.items():
        assert meaning.sentence.endswith("."), name
        assert ". " not in meaning.sentence, name
    assert meanings(["rmse"]).count("<dt>") == 1
