from datetime import date

import numpy as np
import pyarrow as pa

from marquee.data.dataset import Catalog, Histories
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth
from marquee.evaluation.slices import history_slices, is_tail, is_young

DAY = 86_400_000_000


def test_history_slices_count_distinct_items():
    histories = Histories.of_items([*range(19), 0, 0], [*range(20)], [*range(99)], [*range(100)], [])
    masks = history_slices(histories)
    assert masks["history_under_20"].tolist() == [True, False, False, False, True]
    assert masks["history_20_to_99"].tolist() == [False, True, True, False, False]
    assert masks["history_100_up"].tolist() == [False, False, False, True, False]


def test_tail_is_all_but_the_most_frequent_fifth():
    catalogue = Vocabulary([50, 40, 30, 20, 10])
    assert is_tail(np.array([50, 40, 10, 99]), catalogue).tolist() == [False, True, True, True]


def test_young_items_were_released_less_than_a_year_before():
    catalog = Catalog(
        pa.table(
            {
                "item_id": [1, 2, 3],
                "title": list("abc"),
                "release_date": [date(1971, 1, 1), date(1970, 1, 1), None],
            }
        )
    )
    times = np.array([400, 400, 400, 400]) * DAY  # 5 February 1971
    truth = GroundTruth(np.array([0, 4]), np.array([1, 2, 3, 9]), times, np.zeros(4, np.float32))
    assert is_young(truth, catalog).tolist() == [True, False, False, False]
    assert not is_young(truth, None).any()
