"""Parameter sources: what they give, in which order, and what they say about wrong input."""

import csv
import io
import json
import os
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.campaign.file import load
from pilotmtc.errors import ConfigError, PilotMTCError, UsageError
from pilotmtc.parameters import Row, Source, as_number, axis, combine, file, grid, lines, split_lists, values

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\ufeff"), max_size=12)


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def one(source: Source) -> list[str]:
    assert all(len(row) == 1 for row in source)
    return [row[0] for row in source]


# -- lists


def test_lists_are_multiplied_with_the_last_one_fastest() -> None:
    source = values(["a", "b"], ["1", "2"])
    assert (source.fields, source.size) == (("1", "2"), 4)
    assert list(source) == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


def test_command_and_lists_are_parted() -> None:
    command, source = split_lists(["sim", "--x", ":::", "1", "2", ":::", "a"])
    assert source is not None
    assert (command, list(source)) == (["sim", "--x"], [("1", "a"), ("2", "a")])
    assert split_lists(["sim"]) == (["sim"], None)


@pytest.mark.parametrize("words", [["x", ":::"], ["x", ":::", "a", ":::"], ["x", ":::", ":::", "a"]])
def test_empty_list_is_an_error(words: list[str]) -> None:
    with pytest.raises(UsageError, match="is empty: give values"):
        split_lists(words)


def test_other_separators_are_named() -> None:
    with pytest.raises(UsageError, match=r"'::::' is GNU parallel's"):
        split_lists(["x", "::::", "file"])


# -- lines


def test_lines_keep_blanks_and_lose_ends_and_empty_ones() -> None:
    stream = io.BytesIO("\ufeff a \r\n\n\r\nb\tc\nlast".encode())
    assert one_pass(lines(stream)) == [(" a ",), ("b\tc",), ("last",)]


def one_pass(source: Source) -> list[Row]:
    assert not source.again
    return list(source)


def test_lines_ended_by_nul_may_hold_newlines() -> None:
    assert one_pass(lines(io.BytesIO(b"a\nb\0c\0"), end=b"\0")) == [("a\nb",), ("c",)]


def test_line_that_is_not_utf8_is_named() -> None:
    with pytest.raises(UsageError, match=r"standard input:3: byte 2 of the line, 0xff, is not UTF-8.*iconv"):
        list(lines(io.BytesIO(b"a\nb\nc\xff\n")))


def test_endless_line_is_an_error_and_not_a_full_memory() -> None:
    with pytest.raises(UsageError, match="input:2: the line is longer than 1 MiB"):
        list(lines(io.BytesIO(b"a\n" + b"x" * (3 << 20))))


def test_nul_in_a_line_is_an_error() -> None:
    with pytest.raises(UsageError, match="standard input:1 holds a NUL"):
        list(lines(io.BytesIO(b"a\0b\n")))


def test_lines_come_as_they_are_written() -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as stream, open(theirs, "wb", buffering=0) as writer:
        rows = iter(lines(stream))
        writer.write(b"a\nb\nrest")
        assert [next(rows), next(rows)] == [("a",), ("b",)]
        writer.write(b" of it\n")
        assert next(rows) == ("rest of it",)


@given(st.lists(TEXT.filter(lambda text: text and "\n" not in text and not text.endswith("\r"))))
def test_lines_round_trip(texts: list[str]) -> None:
    assert one_pass(lines(io.BytesIO("\n".join(texts).encode()))) == [(text,) for text in texts]


# -- CSV


def test_csv_names_parameters_by_its_header(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", '\ufeffmass,name\r\n1.50,"a, ""b"""\r\n\r\n2,"two\nlines"\r\n')
    source = file(path)
    assert (source.fields, source.size, source.again) == (("mass", "name"), 2, True)
    assert list(source) == list(source) == [("1.50", 'a, "b"'), ("2", "two\nlines")]


def test_blanks_after_commas_count_unless_the_header_has_them(tmp_path: Path) -> None:
    assert list(file(written(tmp_path, "a.csv", "a,b\n1, 2 \n"))) == [("1", " 2 ")]
    assert list(file(written(tmp_path, "b.csv", 'a, b\n1, "2"\n'))) == [("1", "2")]
    assert list(file(written(tmp_path, "c.csv", '"a, b",c\n1,  2\n'))) == [("1", "  2")]
    assert list(file(written(tmp_path, "d.csv", '"a", "b ""x"""\n1,  2\n'))) == [("1", "2")]


def test_tabs_and_semicolons_part_when_the_header_has_no_comma(tmp_path: Path) -> None:
    assert list(file(written(tmp_path, "a.csv", "a;b\n1,5;2\n"))) == [("1,5", "2")]
    assert list(file(written(tmp_path, "a.tsv", "a,b\tc\n1\t2\n"))) == [("1", "2")]
    source = file(written(tmp_path, "b.csv", '"mass, total";seed\n1;2\n'))
    assert (source.fields, list(source)) == (("mass, total", "seed"), [("1", "2")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n3\n", r"p\.csv:3: 1 values \(3\) for the 2 columns"),
        ('a,b\n"x\ny",2\n1,2,3\n', r"p\.csv:4: 3 values"),
        ('a,b\n1,2\n"x,2\n', r"p\.csv:3: unexpected end of data.*quote"),
        ('a,b\n"x"y,2\n', r"p\.csv:2: .*quote"),
        ("a,,b\n", r"p\.csv:1: column 2 has no name"),
        ("a,a\n", r"p\.csv:1: two parameters are called 'a'"),
        ("1,2\n3,4\n", r"p\.csv:1: '1' cannot name.*header"),
        ("a{,b\n", r"p\.csv:1: 'a\{' cannot name"),
        ("", r"p\.csv is empty"),
        ("\n\n", r"p\.csv is empty"),
        (b"a,b\n1,2\n\xe4,2\n", r"p\.csv:3: byte 1 of the line, 0xe4, is not UTF-8"),
        ("a,b\n1,\0\n", r"p\.csv:2.* NUL"),
        ("a\n" + "x" * 200_000 + "\n", r"p\.csv:2: field larger"),
    ],
)
def test_wrong_csv_is_named_with_its_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        file(written(tmp_path, "p.csv", content))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt", "toml"])
def test_files_of_other_systems_say_how_to_convert_them(tmp_path: Path, suffix: str) -> None:
    read = load if suffix == "toml" else file
    text = '{"a": 1}\n{"a": 2}\n' if suffix == "jsonl" else "a = 1\nb = 2\n"
    for code, remedy in (("utf-16", "utf-16 "), ("utf-16-le", "utf-16le "), ("utf-16-be", "utf-16be ")):
        with pytest.raises(UsageError, match=f"is not UTF-8 but UTF-16.*iconv -f {remedy}"):
            read(written(tmp_path, f"a.{suffix}", text.encode(code)))
    with pytest.raises(UsageError, match="end with CR alone"):
        read(written(tmp_path, f"a.{suffix}", text.replace("\n", "\r")))


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(TEXT, min_size=n, max_size=n), max_size=5)),
)
def test_csv_round_trips(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    width = len(rows[0]) if rows else 1
    rows = [row for row in rows if row != [""]]  # csv writes it as "" but an empty line is no row
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow([f"f{number}" for number in range(width)])
    writer.writerows(rows)
    path = written(tmp_path_factory.mktemp("csv"), "p.csv", text.getvalue())
    assert [list(row) for row in file(path)] == rows


# -- JSON lines


def test_json_lines_keep_numbers_as_they_are_written(tmp_path: Path) -> None:
    path = written(
        tmp_path, "p.jsonl", '{"a": 1.50, "b": "x\\u00e4"}\n\n{"b": true, "a": 1e-3}\n{"a":[1, 2],"b":{"c":0}}\n'
    )
    source = file(path)
    assert (source.fields, source.size) == (("a", "b"), 3)
    assert list(source) == [("1.50", "xä"), ("1e-3", "true"), ("[1, 2]", '{"c":0}')]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1}\n{"b": 1}\n', r"p\.jsonl:2: key 'a' is missing"),
        ('{"a": 1}\n{"a": 1, "b": 1}\n', r"p\.jsonl:2: key 'b' is not in the first"),
        ('{"a": 1}\n{"a": \n', r"p\.jsonl:2: .*must be a JSON object"),
        ("[1]\n", r"p\.jsonl:1: .*must be a JSON object"),
        ('{"a": null}\n', r"p\.jsonl:1: 'a' is null"),
        ("{}\n", r"p\.jsonl:1: the object is empty"),
        ("", r"p\.jsonl is empty"),
        ('{"a": "\\u0000"}\n', r"p\.jsonl:1.*NUL"),
        ('{"a": ' + "[" * 20_000 + "]" * 20_000 + "}\n", r"p\.jsonl:1: .*recursion"),
        ('{"a": 1}\n' + '{"a":' * 20_000 + "1" + "}" * 20_000 + "\n", r"p\.jsonl:2: .*recursion"),
    ],
)
def test_wrong_json_lines_are_named_with_their_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        file(written(tmp_path, "p.jsonl", content))


@given(
    st.lists(st.tuples(TEXT, st.integers(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5)
)
def test_json_lines_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, float]]) -> None:
    text = "".join(json.dumps({"s": s, "i": i, "x": x}) + "\n" for s, i, x in rows)
    found = list(file(written(tmp_path_factory.mktemp("jsonl"), "p.jsonl", text)))
    assert [(s, int(i), float(x)) for s, i, x in found] == rows


# -- any file


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:;\n\r\t a1\\', max_size=40).map(str.encode), st.data())
def test_any_bytes_make_rows_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(["csv", "tsv", "jsonl", "lines"]))
    path = written(tmp_path_factory.mktemp("any"), "p", content)
    try:
        rows = list(source := file(path, form))
    except UsageError as error:
        message = str(error)
    else:
        message = str(path)
        assert all(len(row) == len(source.fields) for row in rows)
    assert str(path) in message


def test_format_and_file_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format of .*p\.dat is not known"):
        file(written(tmp_path, "p.dat", "a"))
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read: No such file"):
        file(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        file(tmp_path, "csv")


def test_pipe_is_streamed_once(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("a,b\n1,2\n"))
    writer.start()
    source = file(path, "csv")
    assert (source.fields, source.size) == (("a", "b"), None)
    assert one_pass(source) == [("1", "2")]
    writer.join(10)


def test_file_with_another_header_than_before_is_refused(tmp_path: Path) -> None:
    source = file(written(tmp_path, "p.csv", "a,b\n1,2\n"))
    written(tmp_path, "p.csv", "b,a\n1,2\n")
    with pytest.raises(UsageError, match="has changed"):
        list(source)


# -- grids


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("m=1:3", "1 2 3"),
        ("m=1:2:0.5", "1 1.5 2"),
        ("m=0:1:0.3", "0 0.3 0.6 0.9"),
        ("m=-1:1:.5", "-1 -0.5 0 0.5 1"),
        ("m=3:1:-1", "3 2 1"),
        ("m=1e-3:3e-3:1e-3", "0.001 0.002 0.003"),
        ("m=1e3:2e3:5e2", "1000 1500 2000"),
        ("m=1:1", "1"),
        ("m=0..3", "0 1 2 3"),
        ("m=3..1", "3 2 1"),
        ("m=-1..1", "-1 0 1"),
        ("m=008..011", "008 009 010 011"),
        ("m=a,b, c", "a b c"),
        ("m=1.50,2", "1.50 2"),
        ("m=0,5..6,1:2:1", "0 5 6 1 2"),
        ("m=12:30:x", "12:30:x"),
        (" m =1", "1"),
    ],
)
def test_axis_values(word: str, expected: str) -> None:
    source = axis(word)
    assert source.fields == ("m",)
    assert one(source) == expected.split()
    assert source.size == len(expected.split())


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("mass", "'mass' is no axis"),
        ("=1", "'=1' is no axis"),
        ("m=", "gives m no values"),
        ("m=1,,2", "nothing between two commas"),
        ("m=1:2:0", "step 0"),
        ("m=1:3:-1", "write 1:3:1"),
        ("m=3:1", "write 3:1:-1"),
        ("m=1e-300:1:1", "more than 60 digits"),
        ("m=0..9999999999", "is the step right"),
        ("m=0:1:1e-20", "is the step right"),
        ("1=2", "cannot name"),
        ("a{=2", "cannot name"),
    ],
)
def test_wrong_axis_is_named(word: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        axis(word)


NUMBERS = st.decimals(-1000, 1000, places=2)


@given(NUMBERS, NUMBERS, st.decimals(Decimal("0.5"), 100, places=3))
def test_ranges_are_exact_and_inclusive(first: Decimal, last: Decimal, step: Decimal) -> None:
    pace = step if last >= first else -step
    source = axis(f"x={first}:{last}:{pace}")
    found = [Decimal(text) for text in one(source)]
    count = int((last - first) / pace) + 1
    assert found == [first + number * pace for number in range(count)]
    assert source.size == count


@given(st.text(alphabet="x=0123456789.:,e-+ a", max_size=20))
def test_any_axis_makes_values_or_a_usage_error(text: str) -> None:
    try:
        source = axis(text)
    except UsageError:
        return
    assert source.size is not None
    if source.size < 1000:
        assert len(list(source)) == source.size


# -- products


def test_grid_is_a_product_with_the_last_axis_fastest() -> None:
    source = grid(["m=1:2", "s=a,b"])
    assert source.fields == ("m", "s")
    assert list(source) == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]


def test_unnamed_sources_come_first_and_are_streamed() -> None:
    source = combine([grid(["m=1:2"]), lines(io.BytesIO(b"x\ny\n"))])
    assert (source.fields, source.size, source.again) == (("1", "m"), None, False)
    assert list(source) == [("x", "1"), ("x", "2"), ("y", "1"), ("y", "2")]


def test_inner_source_that_cannot_be_read_twice_is_kept() -> None:
    source = combine([lines(io.BytesIO(b"x\ny\n")), lines(io.BytesIO(b"1\n2\n"))])
    assert source.fields == ("1", "2")
    assert list(source) == [("x", "1"), ("x", "2"), ("y", "1"), ("y", "2")]


def test_large_products_start_at_once() -> None:
    source = grid(["a=1..1000000", "b=1..1000000", "c=1..1000"])
    assert source.size == 10**15
    assert next(iter(source)) == ("1", "1", "1")


def test_same_name_twice_and_nothing_at_all_are_errors() -> None:
    with pytest.raises(UsageError, match="two sources have a parameter called 'a'"):
        grid(["a=1", "b=2", "a=3"])
    with pytest.raises(PilotMTCError, match="no parameters"):
        combine([])


# -- numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3), ("-3", -3), ("+3", 3), ("007", 7), ("2.50", 2.5), ("-.5", -0.5), ("1.", 1.0), ("1e-3", 0.001),
        ("1E5", 100_000.0), ("1" * 30, int("1" * 30)), ("1" * 5000, float("1" * 5000)),
    ],
)  # fmt: skip
def test_texts_that_are_numbers(text: str, number: float) -> None:
    assert (as_number(text), type(as_number(text))) == (number, type(number))


@pytest.mark.parametrize(
    "text", ["", " 3", "1_000", "nan", "inf", "0x10", "1e", ".", "1.2.3", "٣", "3 ", "1,5", "True"]
)
def test_texts_that_are_no_numbers(text: str) -> None:
    assert as_number(text) == text
