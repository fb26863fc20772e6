import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from marquee.data.dataset import Catalog, Histories
from marquee.data.schema import CSR
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth
from marquee.evaluation.metrics import (
    calibration,
    content_vectors,
    coverage,
    genre_vectors,
    hit_rate,
    hits,
    intra_list_distance,
    mrr,
    ndcg,
    popularity_percentile,
    recall,
)

REPOSITORY = Path(__file__).parents[2]


def truth_of(*item_ids: list[int]) -> GroundTruth:
    flat = np.array([item for items in item_ids for item in items], dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in item_ids])]).astype(np.int64)
    return GroundTruth(indptr, flat, np.zeros(len(flat), np.int64), np.full(len(flat), np.nan, np.float32))


def random_lists(generator: np.random.Generator, n: int = 40, n_items: int = 60, k: int = 20):
    lists = np.stack([generator.permutation(n_items)[:k] for _ in range(n)])
    truth = truth_of(
        *(generator.choice(n_items + 10, generator.integers(1, 30), replace=False).tolist() for _ in range(n))
    )
    return lists, truth


def test_ndcg_of_a_list_worked_by_hand():
    found = hits(np.array([[7, 1, 8, 2]]), truth_of([1, 2, 99]))
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found.tolist() == [[False, True, False, True]]
    assert ndcg(found, np.array([3]), 10) == pytest.approx([(1 / np.log2(3) + 1 / np.log2(5)) / ideal])


def test_hits_behind_k_do_not_count():
    found = hits(np.array([[7, 8, 9, 1]]), truth_of([1]))
    n_truth = np.array([1])
    assert ndcg(found, n_truth, 3) == recall(found, n_truth, 3) == hit_rate(found, n_truth, 3) == [0.0]
    assert mrr(found, n_truth, 3) == [0.0]
    assert mrr(found, n_truth, 4) == [0.25]


def test_recall_divides_by_the_whole_ground_truth():
    found = hits(np.array([[1, 2], [3, -1]]), truth_of([1, 2, 3, 4], [3]))
    assert recall(found, np.array([4, 1]), 2).tolist() == [0.5, 1.0]


def test_query_without_ground_truth_is_undefined():
    found = hits(np.array([[1, 2]]), truth_of([]))
    for metric in (ndcg, recall, hit_rate, mrr):
        assert np.isnan(metric(found, np.array([0]))).all()


def test_padding_is_never_a_hit():
    assert not hits(np.array([[-1, -1]]), truth_of([5])).any()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_metrics_lie_between_zero_and_one(seed):
    lists, truth = random_lists(np.random.default_rng(seed))
    found = hits(lists, truth)
    for metric in (ndcg, recall, hit_rate, mrr):
        values = metric(found, truth.lengths)
        assert ((values >= 0) & (values <= 1)).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_perfect_ranking_has_ndcg_one(seed):
    generator = np.random.default_rng(seed)
    wanted = [generator.choice(60, generator.integers(1, 15), replace=False).tolist() for _ in range(20)]
    lists = np.stack([np.r_[items, np.setdiff1d(np.arange(60), items)][:20] for items in wanted])
    truth = truth_of(*wanted)
    assert ndcg(hits(lists, truth), truth.lengths) == pytest.approx(np.ones(20))


def test_ndcg_equals_scikit_learn():
    generator = np.random.default_rng(0)
    lists, truth = random_lists(generator, n_items=60, k=60)
    items = Vocabulary(np.arange(70))  # ten items of the ground truth are never listed
    relevance = truth.matrix(items).toarray()
    scores = np.full((len(lists), 70), -1.0)
    scores[:, 60:] = -2.0 - np.arange(10)
    np.put_along_axis(scores, lists, -np.arange(60.0), axis=1)
    scores[:, 60:] -= 100
    expected = [ndcg_score(r[None], s[None], k=10) for r, s in zip(relevance, scores, strict=True)]
    assert ndcg(hits(lists, truth), truth.lengths, 10) == pytest.approx(expected)


def test_coverage_counts_distinct_items_of_the_catalogue():
    lists = np.array([[1, 2, 9], [2, 1, 3], [77, -1, -1]])
    assert coverage(lists, Vocabulary([1, 2, 3, 4]), k=2) == 0.5


def test_popularity_percentile_gives_ties_their_middle():
    assert popularity_percentile(np.array([9, 5, 5, 1])).tolist() == [0.875, 0.5, 0.5, 0.125]


def catalog() -> Catalog:
    return Catalog(
        pa.table(
            {
                "item_id": [1, 2, 3, 4],
                "title": list("abcd"),
                "genres": [["Drama"], ["Drama", "War"], ["Comedy"], None],
                "keywords": [["x"], ["x"], [], None],
            }
        )
    )


def test_genre_diversity_worked_by_hand():
    genres = genre_vectors(catalog())
    # Jaccard distances: 1–2 1/2, 1–3 1, 2–3 1; item 4 has no genre, and one item is no pair.
    columns = np.array([[0, 1, 2], [0, 1, 3], [0, 3, -1]])
    assert intra_list_distance(columns, genres, jaccard=True) == pytest.approx(
        [2.5 / 3, 0.5, np.nan], nan_ok=True
    )


def test_content_diversity_equals_the_dense_cosine():
    generator = np.random.default_rng(0)
    dense = (generator.random((30, 12)) < 0.3) * generator.random((30, 12))
    dense[dense.sum(axis=1) == 0, 0] = 1.0
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    columns = np.stack([generator.permutation(30)[:6] for _ in range(5)])
    cosine = dense @ dense.T
    expected = [1 - cosine[np.ix_(c, c)][~np.eye(6, dtype=bool)].mean() for c in columns]
    found = intra_list_distance(columns, CSR(np.vstack([dense, np.zeros(12)]).astype(np.float32)))
    assert found == pytest.approx(expected, abs=1e-5)


def test_content_vectors_have_unit_length_where_facts_are_known():
    lengths = np.linalg.norm(content_vectors(catalog()).toarray(), axis=1)
    assert lengths == pytest.approx([1, 1, 1, 0, 0])


def test_calibration_is_one_for_the_users_own_mix_and_zero_for_foreign_genres():
    items = Vocabulary([1, 2, 3, 4])
    genres = genre_vectors(catalog())
    histories = Histories.of_items([1], [1], [4], [1, 3])
    columns = np.array([[0, 0], [2, -1], [0, 1], [0, 0]])
    # The last: taste ½ drama ½ comedy, shown drama only: 1 − √(1 − √½).
    expected = [1.0, 0.0, np.nan, 1 - np.sqrt(1 - np.sqrt(0.5))]
    assert calibration(columns, histories, items, genres) == pytest.approx(expected, nan_ok=True, abs=1e-6)


def test_unknown_facts_leave_diversity_and_calibration_undefined():
    items = Vocabulary([1, 2])
    empty = genre_vectors(None)
    columns = np.array([[-1, -1]])
    assert np.isnan(intra_list_distance(columns, empty)).all()
    assert np.isnan(intra_list_distance(columns, empty, jaccard=True)).all()
    assert np.isnan(calibration(columns, Histories.of_items([1]), items, empty)).all()


@pytest.mark.integration
def test_metrics_equal_rectools(tmp_path: Path):
    """RecTools needs an older NumPy, so it runs in the environment of the peers."""
    python = REPOSITORY / ".venv-peers" / "bin" / "python"
    if not python.exists():
        missing = f"missing: the peers environment ({python}); run `make setup-peers`"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    lists, truth = random_lists(np.random.default_rng(7), n=50)
    given = {
        "lists": lists.tolist(),
        "truth": [truth.item_ids[a:b].tolist() for a, b in zip(truth.indptr, truth.indptr[1:], strict=False)],
        "catalogue": list(range(60)),
    }
    (tmp_path / "in.json").write_text(json.dumps(given))
    script = Path(__file__).with_name("rectools_metrics.py")
    done = subprocess.run(
        [python, "-W", "ignore", script, tmp_path / "in.json"], capture_output=True, text=True, check=True
    )
    theirs = json.loads(done.stdout)
    found, n_truth = hits(lists, truth), truth.lengths

    assert ndcg(found, n_truth, 10) == pytest.approx(theirs["ndcg"])
    assert recall(found, n_truth, 20) == pytest.approx(theirs["recall"])
    assert hit_rate(found, n_truth, 10) == pytest.approx(theirs["hit_rate"])
    assert mrr(found, n_truth, 10) == pytest.approx(theirs["mrr"])
    assert coverage(lists, Vocabulary(np.arange(60)), 10) == pytest.approx(theirs["coverage"])
