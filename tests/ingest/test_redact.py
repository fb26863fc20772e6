"""Files without the rows of some users, whatever way those are written."""

from pathlib import Path

import polars as pl
import pytest

from marquee.ingest.redact import rewrite

LOG = "user_id,item_id,note\n"


def lines(tmp_path: Path, content: str, ending: str, *users: int) -> tuple[str, list[str]]:
    path, clean = tmp_path / "file", tmp_path / "clean"
    path.write_text(content)
    found = rewrite(path, clean, ending, users)
    return found, clean.read_text().splitlines()


@pytest.mark.parametrize("user", ["7", " 7", "07", '"7"', "+7"])
def test_user_is_found_as_the_contract_reads_it(tmp_path: Path, user: str) -> None:
    found, left = lines(tmp_path, f"{LOG}1,2,a\n{user},2,b\n77,2,c\n", ".csv", 7)
    assert (found, left[1:]) == ("rewritten", ["1,2,a", "77,2,c"])


@pytest.mark.parametrize("user", ["7", "7.0", '"7"'])
def test_user_of_json_is_found_as_number_and_text(tmp_path: Path, user: str) -> None:
    content = f'{{"userId": {user}}}\n{{"userId": 7.5}}\n{{"userId": null}}\nno JSON\n'
    found, left = lines(tmp_path, content, ".ndjson", 7)
    assert (found, len(left)) == ("rewritten", 3)


def test_stray_quote_hides_nobody(tmp_path: Path) -> None:
    found, left = lines(tmp_path, f'{LOG}1,2,a"b\n7,2,c\n8,2,d\n', ".csv", 7)
    assert found == "rewritten"
    assert not any(line.startswith("7,") for line in left)


def test_line_break_within_quotes_belongs_to_its_row(tmp_path: Path) -> None:
    found, left = lines(tmp_path, f'{LOG}1,2,"a\nb"\n7,2,"c\nd"\n', ".csv", 7)
    assert (found, left[1:]) == ("rewritten", ['1,2,"a', 'b"'])


def test_ratings_of_old_are_rewritten(tmp_path: Path) -> None:
    assert lines(tmp_path, "1::2::3::4\n7::2::3::4\n", ".movielens-ratings.dat", 7) == (
        "rewritten",
        ["1::2::3::4"],
    )
    assert lines(tmp_path, "7\t2\t3\t4\n", ".movielens-ratings.data", 1)[0] == "others"
    assert rewrite(tmp_path / "file", tmp_path / "no", ".movielens-movies.dat", [7]) == "nobody"


def test_float_column_of_parquet_is_read_as_users(tmp_path: Path) -> None:
    path, clean = tmp_path / "file.parquet", tmp_path / "clean"
    pl.DataFrame({"userId": [1.0, 7.0, None]}).write_parquet(path)
    assert rewrite(path, clean, ".parquet", [8]) == "others"
    assert rewrite(path, clean, ".parquet", [7]) == "rewritten"
    assert pl.read_parquet(clean)["userId"].to_list() == [1.0, None]


@pytest.mark.parametrize("ending", [".zip", ".parquet", ".csv.gz"])
def test_file_that_nobody_can_read_counts_as_naming_them(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"torn")
    assert rewrite(path, tmp_path / "clean", ending, [7]) == "named"


def test_file_of_items_names_nobody(tmp_path: Path) -> None:
    assert lines(tmp_path, "item_id,title\n7,Seven\n", ".csv", 7)[0] == "nobody"
