"""Which backups stay."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from marquee.store.backups import kept

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)  # a Sunday


def test_newest_of_each_day_and_week_stays() -> None:
    moments = [NOON - timedelta(hours=6 * i) for i in range(4 * 40)]
    stay = kept(moments, daily=3, weekly=2)
    assert stay == {NOON, *(NOON.replace(day=day, hour=18) for day in (21, 20, 15))}


def test_newest_backup_stays_whatever_is_asked() -> None:
    assert kept([NOON, NOON - timedelta(days=1)], daily=0, weekly=0) == {NOON}


def test_days_without_a_backup_do_not_count() -> None:
    moments = [NOON - timedelta(days=10 * i) for i in range(3)]
    assert kept(moments, daily=3, weekly=0) == set(moments)


@given(
    st.lists(st.datetimes(datetime(2020, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)), min_size=1),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_what_stays_does_not_depend_on_when_others_went(
    moments: list[datetime], daily: int, weekly: int
) -> None:
    once = kept(moments, daily=daily, weekly=weekly)
    assert kept(once, daily=daily, weekly=weekly) == once
    assert max(moments) in once
