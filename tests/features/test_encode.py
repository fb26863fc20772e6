"""Facts become arrays in the order that the caller gives."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfTransformer

from marquee.data import Catalog, Vocabulary
from marquee.data.schema import CSR
from marquee.features.encode import encode_items, release_years, tf_idf

CATALOG = Catalog(
    pa.table(
        {
            "item_id": [1, 2, 3],
            "title": ["The Whale Song", "기생충", "Whale"],
            "release_date": [date(1994, 5, 1), None, date(2019, 1, 1)],
            "genres": [["Drama", "War"], None, ["Drama"]],
            "people": [["Jane Doe"], [], ["Jane Doe", "Ann Lee"]],
            "original_language": ["en", "ko", "en"],
            "collection_id": pa.array([7, None, 7], pa.int64()),
        }
    )
)
ITEMS = Vocabulary([3, 99, 1])


def test_rows_follow_the_vocabulary_and_unknown_items_are_empty():
    """Known answer."""
    terms = encode_items(CATALOG, ITEMS, ("genres", "era", "collection"))
    assert terms.names == ("collection:7", "era:1990", "era:2015", "genres:Drama", "genres:War")
    assert terms.matrix.toarray().tolist() == [[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 1, 1]]


def test_texts_are_split_into_words_of_any_script_without_stop_words():
    """ "The" says nothing; Hangul is a word."""
    terms = encode_items(CATALOG, CATALOG.items, ("title",))
    assert terms.names == ("title:song", "title:whale", "title:기생충")


def test_rare_terms_are_left_out():
    """A term of one item links nothing."""
    assert encode_items(CATALOG, CATALOG.items, ("people",), min_items=2).names == ("people:Jane Doe",)


def test_no_catalogue_means_no_terms():
    """Models need not ask."""
    assert encode_items(None, ITEMS).matrix.shape == (3, 0)
    assert tf_idf(encode_items(None, ITEMS).matrix).shape == (3, 0)
    assert np.isnan(release_years(None, ITEMS)).all()


def test_unknown_kind_is_refused():
    """A misspelt kind is named."""
    with pytest.raises(ValueError, match="genre"):
        encode_items(CATALOG, ITEMS, ("genre",))


def test_tf_idf_equals_that_of_scikit_learn():
    """Same smoothing, same length."""
    rng = np.random.default_rng(0)
    dense = (rng.random((30, 20)) < 0.2).astype(np.float32)
    items = Vocabulary(np.arange(30))
    genres = [[f"g{j:02d}" for j in np.flatnonzero(row)] for row in dense]
    catalog = Catalog(pa.table({"item_id": items.ids, "title": ["x"] * 30, "genres": genres}))
    terms = encode_items(catalog, items, ("genres",))
    np.testing.assert_array_equal(terms.matrix.toarray(), dense)
    np.testing.assert_allclose(
        tf_idf(terms.matrix).toarray(), TfidfTransformer().fit_transform(dense).toarray(), rtol=1e-5
    )


def test_damping_shortens_rows_of_few_terms_most():
    """Little known, little said."""
    terms = encode_items(CATALOG, CATALOG.items, ("genres", "people", "era"))
    lengths = np.sqrt(
        tf_idf(terms.matrix, damping=1.0).multiply(tf_idf(terms.matrix, damping=1.0)).sum(axis=1)
    )
    assert lengths[1] == 0
    assert 0 < lengths.max() < 1


def test_release_years_are_nan_where_unknown():
    """Known answer."""
    np.testing.assert_array_equal(release_years(CATALOG, ITEMS), [2019, np.nan, 1994])


def test_no_items_at_all_are_weighted_without_an_error() -> None:
    assert tf_idf(CSR((0, 3), dtype=np.float32), damping=0.5).shape == (0, 3)
