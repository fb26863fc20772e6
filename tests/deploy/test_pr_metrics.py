"""What a pull request is measured with, and the table of that."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts import script

pr_metrics = script("pr_metrics")


def numbers(accuracy: float, *seconds: float) -> dict[str, Any]:
    return {
        "quality": {"mlp accuracy": [accuracy], "ease NDCG@10": [0.2]},
        "cost": {"pipeline": list(seconds)},
    }


def written(folder: Path, found: Any) -> Path:
    file = folder / "metrics.json"
    file.write_text(json.dumps(found))
    return file


def test_table_says_what_became_worse_and_leaves_noise_alone(tmp_path: Path) -> None:
    file = written(tmp_path, {"base": numbers(0.9, 10, 11, 12), "head": numbers(0.8, 11.5, 13, 14)})
    table = pr_metrics.table(*pr_metrics.read(file))
    assert "| mlp accuracy | 0.9000 | 0.8000 | -0.1000 **worse** |" in table
    assert "| ease NDCG@10 | 0.2000 | 0.2000 | 0 |" in table
    assert "| 11.00 s (10.00–12.00) | 13.00 s (11.50–14.00) | 1.18 × |" in table
    slower = written(tmp_path, {"base": numbers(0.9, 10, 11), "head": numbers(0.95, 20, 22)})
    table = pr_metrics.table(*pr_metrics.read(slower))
    assert "+0.0500 better" in table
    assert "2.00 × **worse** |" in table


@pytest.mark.parametrize(
    "found",
    [
        [],
        {"base": numbers(1, 1)},
        {"base": numbers(1, 1), "head": {"quality": {"[click](http://x)": [1]}, "cost": {}}},
        {"base": numbers(1, 1), "head": {"quality": {"mlp accuracy": ["@everyone"]}, "cost": {}}},
        {"base": numbers(1, 1), "head": {"quality": {"mlp accuracy": [float("nan")]}, "cost": {}}},
        {"base": numbers(1, 1), "head": {"quality": {"mlp accuracy": [[1] * 50_000]}, "cost": {}}},
        {"base": numbers(1, 1), "head": {"quality": {"mlp accuracy": []}, "cost": {}}},
    ],
)
def test_comment_takes_nothing_but_known_names_and_numbers(tmp_path: Path, found: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        pr_metrics.read(written(tmp_path, found))


@pytest.mark.slow
@pytest.mark.integration
def test_metrics_of_the_code_itself_show_no_difference_in_quality(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the processor's time is read from /proc")
    for name in ("base", "head"):  # without an environment of their own: both are this one
        (tmp_path / name).mkdir()
    base, head = pr_metrics.measure([tmp_path / "base", tmp_path / "head"], rounds=1, requests=20)
    assert set(base["quality"]) == set(pr_metrics.QUALITY)
    assert base["quality"] == head["quality"]
    assert set(base["cost"]) == set(pr_metrics.COST)
    assert pr_metrics.table(*pr_metrics.read(written(tmp_path, {"base": base, "head": head})))
