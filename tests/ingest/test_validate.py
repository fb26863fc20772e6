"""The contract of incoming rows."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.errors import SchemaError
from marquee.ingest.validate import INTERACTION_COLUMNS, ITEM_COLUMNS, check_interactions, check_items

NOW = datetime(2026, 5, 17, tzinfo=UTC)

values = st.one_of(
    st.none(),
    st.integers(-5, 12).map(str),
    st.sampled_from(
        ["", " ", "nan", "inf", "1e400", "x", "a\0b", "2020-01-02T03:04:05Z", "rate", "undo", "|", "9" * 30]
    ),
    st.text(max_size=5),
)


def rows_of(columns) -> st.SearchStrategy[list[dict[str, str | None]]]:
    return st.lists(st.fixed_dictionaries(dict.fromkeys(columns, values)), max_size=20)


def frame(rows, columns) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def reasons(**row: object) -> str:
    usual = {"user_id": 1, "item_id": 2, "occurred_at": 1_000_000_000}
    checked = check_interactions(pl.DataFrame([usual | row], strict=False), now=NOW)
    return "".join(checked.rejected["reason"])


@given(rows=rows_of(INTERACTION_COLUMNS))
@settings(max_examples=60, deadline=None)
def test_no_interaction_is_lost(rows):
    raw = frame(rows, INTERACTION_COLUMNS)
    checked = check_interactions(raw, now=NOW)
    assert len(checked.good) + len(checked.rejected) == len(raw)
    assert dict(checked.good.schema) == dict(INTERACTION_COLUMNS)
    assert all(checked.rejected["reason"])
    assert checked.good["user_id"].min() is None or checked.good["user_id"].min() > 0
    assert checked.good.filter(~pl.col("rating").is_between(0, 10)).is_empty()


@given(rows=rows_of(ITEM_COLUMNS))
@settings(max_examples=60, deadline=None)
def test_no_item_is_lost(rows):
    raw = frame(rows, ITEM_COLUMNS)
    checked = check_items(raw, now=NOW)
    assert len(checked.good) + len(checked.rejected) == len(raw)
    assert dict(checked.good.schema) == dict(ITEM_COLUMNS)
    assert checked.good["item_id"].is_unique().all()
    assert checked.good["title"].null_count() == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"user_id": "anna"}, "user_id anna is not a 64-bit integer"),
        ({"user_id": None}, "user_id is missing"),
        ({"item_id": 1.5}, "item_id 1.5 is not a 64-bit integer"),
        ({"item_id": 2**63}, "item_id 9223372036854775808 is not a 64-bit integer"),
        ({"item_id": 0}, "item_id 0 is not positive"),
        ({"rating": 10.5}, "rating 10.5 is outside 0–10"),
        ({"rating": float("nan")}, "rating NaN is outside 0–10"),
        ({"watch_seconds": -1}, "watch_seconds -1 is outside"),
        ({"watch_seconds": float("inf")}, "watch_seconds inf is outside"),
        ({"event": "seen"}, "event seen is unknown"),
        ({"event": "rate"}, "event rate has no rating"),
        ({"event": "undo"}, "event undo names no event_key in revokes"),
        ({"event": "like", "revokes": "k"}, "only event undo may have revokes"),
        ({"occurred_at": "soon"}, "occurred_at soon is not an ISO 8601 time or Unix seconds"),
        ({"occurred_at": "2026-05-17T00:06:00Z"}, "is in the future"),
        ({"occurred_at": "1899-12-31"}, "is before 1900"),
        ({"event_key": "k" * 501}, "event_key is longer than 500 characters"),
        ({"event_key": "a\0b"}, "event_key has a NUL character"),
    ],
)
def test_broken_rule_is_named_with_the_value(row, reason):
    assert reason in reasons(**row)


def test_all_broken_rules_of_a_row_are_named():
    assert reasons(rating=11, watch_seconds=-1).count(";") == 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2020-01-02", datetime(2020, 1, 2, tzinfo=UTC)),
        ("2020-01-02 03:04", datetime(2020, 1, 2, 3, 4, tzinfo=UTC)),
        ("2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2020-01-02T03:04:05.25Z", datetime(2020, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)),
        ("2020-01-02T03:04:05+09:00", datetime(2020, 1, 1, 18, 4, 5, tzinfo=UTC)),
        ("2020-01-02T03:04:05-0330", datetime(2020, 1, 2, 6, 34, 5, tzinfo=UTC)),
        ("1577934245", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1577934245, datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1577934245.5, datetime(2020, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        (datetime(2020, 1, 2, 3, 4, 5), datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (date(2020, 1, 2), datetime(2020, 1, 2, tzinfo=UTC)),
    ],
)
def test_time_is_read_as_utc(given, meant):
    raw = pl.DataFrame({"user_id": [1], "item_id": [2], "occurred_at": [given]})
    assert check_interactions(raw, now=NOW).good["occurred_at"].to_list() == [meant]


def test_kinds_of_times_may_mix_in_a_column():
    raw = pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [2, 2, 2],
            "occurred_at": ["2020-01-02", "1577934245", "2020-01-02T03:04Z"],
        }
    )
    assert len(check_interactions(raw, now=NOW).good) == 3


def test_missing_event_follows_from_the_values():
    raw = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [2, 2, 2], "occurred_at": [1, 2, 3],
                        "rating": [7.0, None, 8.0], "watch_seconds": [None, None, 60.0]})  # fmt: skip
    assert check_interactions(raw, now=NOW).good["event"].to_list() == ["rate", "watch", "watch"]


def test_clock_skew_of_minutes_is_allowed():
    assert reasons(occurred_at="2026-05-17T00:04:00Z") == ""


def test_missing_column_is_named():
    with pytest.raises(SchemaError, match=r"lacks the columns user_id.*it has uid, item_id"):
        check_interactions(pl.DataFrame({"uid": [1], "item_id": [1], "occurred_at": [1]}))


def test_nested_column_is_refused():
    raw = pl.DataFrame({"user_id": [[1]], "item_id": [1], "occurred_at": [1]})
    with pytest.raises(SchemaError, match="user_id is nested"):
        check_interactions(raw)


def test_category_is_read_by_its_name():
    raw = pl.DataFrame(
        {"user_id": pl.Series(["77"], dtype=pl.Categorical), "item_id": [1], "occurred_at": [1]}
    )
    assert check_interactions(raw).good["user_id"].to_list() == [77]


def test_item_lists_come_as_lists_or_text():
    told = check_items(pl.DataFrame({"item_id": ["1"], "title": ["A"], "genres": ["Drama| War |"]})).good
    listed = check_items(pl.DataFrame({"item_id": [1], "title": ["A"], "genres": [["Drama", "War"]]})).good
    assert told["genres"].to_list() == listed["genres"].to_list() == [["Drama", "War"]]


def test_repeated_item_keeps_its_last_good_row():
    raw = pl.DataFrame({"item_id": ["1", "1", "1"], "title": ["old", "new", ""]})
    checked = check_items(raw)
    assert checked.good["title"].to_list() == ["new"]
    assert checked.rejected["reason"].to_list() == ["a later row has the same item_id 1", "title is missing"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "  "}, "title is missing"),
        ({"title": "a\0"}, "title has a NUL character"),
        ({"release_date": "1999-13-01"}, "release_date 1999-13-01 is not a date"),
        ({"runtime_minutes": "-5"}, "runtime_minutes -5 is outside"),
        ({"adult": "perhaps"}, "adult perhaps is not true or false"),
        ({"vote_average": "11"}, "vote_average 11 is outside 0–10"),
        ({"keywords": ["a", "b\0"]}, "keywords has a NUL character"),
    ],
)
def test_broken_item_rule_is_named(row, reason):
    checked = check_items(pl.DataFrame([{"item_id": "1", "title": "A"} | row]))
    assert reason in checked.rejected["reason"].item()
