from interaction_rows import random_rows

from marquee.data.split import split


def test_blind_window_has_no_queries():
    window = split(random_rows(0))[2].blind()
    assert len(window) == len(window.truth) == 0
    assert len(window.fit) == 240
