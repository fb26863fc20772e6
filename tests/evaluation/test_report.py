import csv
import json
from dataclasses import replace

import pytest
from rich.console import Console

from marquee.evaluation.offline import evaluate
from marquee.evaluation.report import to_dicts, to_table, write_report
from marquee.models.popularity import Popularity, PopularityConfig

MODELS = {
    "popularity": Popularity,
    "of <late>": lambda: Popularity(PopularityConfig(half_life_days=7)),
}
KEYS = {
    *("model", "protocol", "n_queries", "ndcg_at_10", "ndcg_at_10_low", "ndcg_at_10_high", "recall_at_20"),
    *("hr_at_10", "mrr_at_10", "coverage_at_10", "novelty", "diversity", "slices"),
    *("fit_seconds", "score_seconds"),
}


@pytest.fixture(scope="module")
def evaluation(interactions, catalog):
    return evaluate(MODELS, interactions, catalog)


def shown(table) -> str:
    console = Console(width=240)
    with console.capture() as text:
        console.print(table)
    return text.get()


def test_each_model_is_a_json_object_with_the_agreed_keys(evaluation):
    rows = to_dicts(evaluation)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {row["model"] for row in rows[:2]} == set(MODELS)
    assert [row["model"] for row in rows[2:]] == ["oracle", "random"]
    assert rows[0]["ndcg_at_10"] >= rows[1]["ndcg_at_10"]
    for row in rows:
        assert set(row) >= KEYS
        assert row["ndcg_at_10_low"] <= row["ndcg_at_10"] <= row["ndcg_at_10_high"]


def test_small_slice_is_reported_but_not_judged(evaluation):
    heavy = to_dicts(evaluation)[0]["slices"]["history_100_up"]
    assert (heavy["n_queries"], heavy["judged"], heavy["ndcg_at_10"]) == (0, False, None)


def test_table_shows_intervals_and_marks_what_is_not_significant(interactions):
    twins = evaluate({"one": Popularity, "two": Popularity}, interactions)
    text = shown(to_table(twins, "one"))
    assert "Δ NDCG@10 to one" in text
    assert "+0.000 [+0.000, +0.000] ≈" in text
    assert f"{twins.n_queries} queries" in text


def test_last_is_labelled_as_leaking(interactions):
    text = shown(to_table(evaluate({"popularity": Popularity}, interactions, protocol="last", slices=False)))
    assert "leaks across users" in text


def test_share_of_the_known_best_is_shown(interactions):
    best = Popularity().fit(interactions)
    found = evaluate({"popularity": Popularity}, interactions, known_best=best.recommend)
    row = to_dicts(found)[0]
    assert row["share_of_best"] == pytest.approx(row["ndcg_at_10"] / to_dicts(found)[2]["ndcg_at_10"])
    assert "of best" in shown(to_table(found))


def test_unknown_reference_is_refused(evaluation):
    with pytest.raises(ValueError, match="'ease' was not evaluated"):
        to_table(evaluation, "ease")


def test_report_holds_plots_and_the_tables_behind_them(evaluation, tmp_path):
    curve = [{"loss": 2.0, "accuracy": 0.1}, {"loss": 1.0}]
    learnt = replace(evaluation.results["popularity"], curve=curve)
    evaluation = replace(evaluation, results={**evaluation.results, "popularity": learnt})
    page = write_report(evaluation, tmp_path / "report", "popularity")
    text = page.read_text()

    assert text.count("<svg") == 4
    assert "of &lt;late&gt;" in text
    assert "<late>" not in text
    with (page.parent / "models.csv").open() as file:
        models = list(csv.DictReader(file))
    assert [row["model"] for row in models] == [row["model"] for row in to_dicts(evaluation)]
    with (page.parent / "queries.csv").open() as file:
        queries = [float(row["popularity ndcg_at_10"]) for row in csv.DictReader(file)]
    mean = next(float(row["ndcg_at_10"]) for row in models if row["model"] == "popularity")
    assert sum(queries) / len(queries) == pytest.approx(mean)
    with (page.parent / "curves.csv").open() as file:
        assert [row["loss"] for row in csv.DictReader(file)] == ["2.0", "1.0"]
    assert (page.parent / "slices.csv").exists()
    assert (page.parent / "windows.csv").exists()


def test_same_evaluation_gives_the_same_report(evaluation, tmp_path):
    one, other = (write_report(evaluation, tmp_path / name) for name in "ab")
    assert one.read_bytes() == other.read_bytes()
