"""Reading series from files: what is read, and what is refused with its place."""

from __future__ import annotations

import numpy as np
import pytest

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.examples import sunspots, write_example
from fusedrnn.tasks.forecast.series import Columns, from_values, read_csv

SALES = Columns("sales", time="day")


def _file(tmp_path, text, name="shop.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def test_one_series_with_everything(tmp_path):
    text = "day,sales,price, rain\n2024-01-30,1,9,0.5\n2024-01-31,2.5,8,0\n2024-02-01,-3e1,7,1\n"
    columns = Columns("sales", "day", past=("rain",), known=("price",))
    (series,) = read_csv(_file(tmp_path, text), columns)
    assert series.name == "shop"
    assert series.target.tolist() == [1.0, 2.5, -30.0]
    assert series.past.tolist() == [[0.5], [0.0], [1.0]]
    assert series.known.tolist() == [[9.0], [8.0], [7.0]]
    assert series.times.astype(str).tolist()[0] == "2024-01-30T00:00:00"
    assert series.times.dtype == "datetime64[s]"


def test_many_series_whose_rows_alternate(tmp_path):
    text = "shop,day,sales\nb,2024-01,1\na,2024-01,10\nb,2024-02,2\na,2024-03,30\nb,2024-03,3\n"
    b, a = read_csv(_file(tmp_path, text), Columns("sales", "day", "shop"))
    assert (b.name, b.target.tolist()) == ("b", [1, 2, 3])
    assert (a.name, a.target.tolist()) == ("a", [10, 30])
    assert a.times.astype("datetime64[M]").astype(str).tolist() == ["2024-01", "2024-03"]
    assert a.past.shape == (2, 0)
    assert a.known.shape == (2, 0)


def test_covariates_known_ahead_go_on_after_the_target(tmp_path):
    text = "day,sales,price\n2024-01-01,1,9\n2024-01-02,2,8\n2024-01-03,,7\n2024-01-04, ,6\n"
    (series,) = read_csv(_file(tmp_path, text), Columns("sales", "day", known=("price",)))
    assert series.target.tolist() == [1, 2]
    assert series.known.ravel().tolist() == [9, 8, 7, 6]
    assert len(series.times) == 4


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_the_forms_that_files_come_in(tmp_path, bom):
    text = f'{bom}day;"sales"\r\n31.12.2023;"1"\r\n\r\n01.01.2024;2\r\n'
    (series,) = read_csv(_file(tmp_path, text), SALES, delimiter=";", time_format="%d.%m.%Y")
    assert series.target.tolist() == [1, 2]
    assert series.times.astype("datetime64[D]").astype(str).tolist() == ["2023-12-31", "2024-01-01"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header and rows, got an empty file"),
        ("day,sales\n", "expected rows after the header, got none"),
        ("day,price\n2024,1\n", "line 1: expected one column 'sales', got day, price"),
        ("day,sales,sales\n2024,1,1\n", "line 1: expected one column 'sales', got 2 of that name"),
        ("day,sales\n2024-01,1\n2024-02\n", "line 3: expected 2 cells as in the header, got 1"),
        ("day,sales\n2024-01,1,5\n", "line 2: expected 2 cells as in the header, got 3"),
        ("day,sales\n2024,x1\n", "line 2, column 'sales': expected a finite number, got 'x1'"),
        ("day,sales\n2024,1\n2025,nan\n", "line 3, column 'sales': expected a finite number, got 'nan'"),
        ("day,sales\n2024,-inf\n", "line 2, column 'sales': expected a finite number, got '-inf'"),
        ("day,sales\n2024,\n", "line 2, column 'sales': expected a finite number, got an empty cell"),
        ("day,sales\nmonday,1\n", "line 2, column 'day': expected a date as 2024-05-31"),
        ("day,sales\n2024-13,1\n", "line 2, column 'day': expected a date as .*, got '2024-13'"),
        ("day,sales\n2024,1\n2024,1\n", "line 3, column 'day': expected a date after 2024-01-01, that"),
        ('day,sales\n\n"2024\nx",1\n', "line 4, column 'day': expected a date as"),
        ('day,sales\n"2024,1\n', "line 2: unexpected end of data"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_their_place(tmp_path, text, message):
    path = _file(tmp_path, text)
    with pytest.raises(SeriesError, match=message) as caught:
        read_csv(path, SALES)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value).replace("\\n", "")


def test_targets_that_come_back_after_an_empty_cell(tmp_path):
    path = _file(tmp_path, "sales,price\n1,1\n,2\n3,3\n")
    with pytest.raises(SeriesError, match=r"line 4, column 'sales': expected an empty cell after"):
        read_csv(path, Columns("sales", known=("price",)))
    with pytest.raises(SeriesError, match=r"line 3, column 'sales': .* an empty cell"):
        read_csv(path, Columns("sales", past=("price",)))
    with pytest.raises(SeriesError, match=r"expected values of series 'shop', got none"):
        read_csv(_file(tmp_path, "sales,price\n,2\n"), Columns("sales", known=("price",)))


def test_a_name_of_a_series_that_is_empty(tmp_path):
    path = _file(tmp_path, "shop,sales\na,1\n ,2\n")
    with pytest.raises(SeriesError, match="line 3, column 'shop': expected a name"):
        read_csv(path, Columns("sales", series="shop"))


@pytest.mark.parametrize("delimiter", ["", "ab", "\n", '"'])
def test_a_delimiter_that_cannot_be(tmp_path, delimiter):
    with pytest.raises(SeriesError, match="delimiter: expected one character between cells"):
        read_csv(_file(tmp_path, "day,sales\n2024,1\n"), SALES, delimiter=delimiter)


def test_a_column_with_two_uses(tmp_path):
    path = _file(tmp_path, "day,sales\n2024,1\n")
    with pytest.raises(SeriesError, match="column 'sales': expected one use of it, got 2"):
        read_csv(path, Columns("sales", past=("sales",)))


def test_a_file_that_is_not_text(tmp_path):
    with pytest.raises(SeriesError, match="expected UTF-8, got byte 0xe9 at 4"):
        read_csv(_file(tmp_path, "day,é\n", encoding="latin-1"), SALES)


@pytest.mark.parametrize("values", [[1.0, float("nan")], [[1.0], [2.0]]])
def test_values_that_are_no_series(values):
    with pytest.raises(SeriesError, match="expected finite numbers in one dimension"):
        from_values(values)


# --- the examples --------------------------------------------------------------------------------


def test_the_sine(tmp_path):
    write_example("sine", tmp_path / "sine.csv")
    (series,) = read_csv(tmp_path / "sine.csv", Columns("value"))
    noise = series.target - np.sin(0.01 * np.arange(1, 1001))
    assert len(series) == 1000
    assert noise.std() == pytest.approx(0.2, abs=0.02)


def test_the_sunspots_are_the_quoted_ones(tmp_path):
    pytest.importorskip("statsmodels")
    write_example("sunspots", tmp_path / "sunspots.csv")
    (series,) = read_csv(tmp_path / "sunspots.csv", Columns("sunspots", "month"))
    assert len(series) == 2820
    assert series.target[:2].tolist() == [58.0, 62.6]
    assert str(series.times[-1])[:7] == "1983-12"
    last = series.target[2255:]
    assert np.sqrt((np.diff(last) ** 2).mean()) == pytest.approx(20.1, abs=0.05)
    assert len(sunspots(10_000)) == 3126


def test_without_statsmodels_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "statsmodels.datasets.sunspots", None)
    with pytest.raises(SeriesError, match=r"pip install 'fusedrnn\[forecast\]'"):
        sunspots()
    with pytest.raises(SeriesError, match="expected one of sine, sunspots, got 'moon'"):
        write_example("moon", None)
