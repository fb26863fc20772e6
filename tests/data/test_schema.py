"""Events have one name in tables and one code in arrays."""

import pytest

from marquee.data import Event


@pytest.mark.parametrize("event", list(Event))
def test_event_labels_round_trip(event):
    assert Event.from_label(event.label) is event


def test_unknown_event_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'dance'.*watch, rate, like, hide, click, undo"):
        Event.from_label("dance")


def test_event_codes_are_those_of_stored_arrays():
    assert [(e.name, e.value) for e in Event] == [
        ("WATCH", 0),
        ("RATE", 1),
        ("LIKE", 2),
        ("HIDE", 3),
        ("CLICK", 4),
        ("UNDO", 5),
    ]
