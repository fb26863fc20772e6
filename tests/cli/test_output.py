import pytest

from marquee.cli.output import bars, brief, errors_as_lines, rows_table, summary
from marquee.errors import DataError


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (0.0025106293, "0.002511"),
        (100836, "100,836"),
        (True, "True"),
        (f"snapshots/{'ab12' * 16}.json", "snapshots/ab12ab12….json"),
    ],
)
def test_value_is_written_for_people(value: object, written: str) -> None:
    assert brief(value) == written


def test_summary_of_a_pipeline_leaves_keys_to_programs() -> None:
    counts = {"snapshot": "snapshots/x.json", "items": 200, "interactions": 2896}
    assert summary("prepare", counts) == "items 200, interactions 2,896"


def test_table_in_a_pipe_is_not_wrapped_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    rows_table(("what", "where"), [("home", "x" * 100)])
    assert "x" * 100 in capsys.readouterr().out


def test_bar_of_a_training_that_stops_early_ends_full(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as report:
        report("train: epoch", 18, 60)
        report("recommend", 300, 300)
    assert "18/18" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("No rows.", fix="Add\nsome."), 1),
        (OSError(2, "Gone", "x.csv"), 1),
        (ValueError("k"), 2),
    ],
)
def test_error_is_one_line_and_an_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited, errors_as_lines(debug=False):
        raise error
    assert exited.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


def test_error_passes_when_debugging() -> None:
    with pytest.raises(DataError), errors_as_lines(debug=True):
        raise DataError("No rows.")
