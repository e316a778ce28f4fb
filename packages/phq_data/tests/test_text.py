"""Names from outside: exact ones for tables, harmless ones for people, near ones for those who mistyped."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from phq_data import text


def test_the_file_name_of_an_address_is_exact():
    assert text.file_name("https://example.org/a/b%20c.jpg?size=2#top") == "b c.jpg"
    assert text.file_name("file:///photos/%E4%B8%AD.png") == "中.png"
    assert text.file_name("sample:astronaut.png") == "astronaut.png"


def test_a_shown_name_keeps_what_tells_photos_apart_and_drives_no_terminal():
    assert text.shown_name("synthetic:20@0#7") == "synthetic:20@0#7"
    assert text.shown_name("https://example.org/a/b%20c.jpg") == "b c.jpg"
    assert text.shown_name("file:///photos/evil%1B[2J.jpg") == "evil\\u{1b}[2J.jpg"
    assert text.shown_name("") == ""


def test_the_nearest_name_is_suggested_or_all_are_told():
    assert text.suggestion("contct", ["contact", "api"]) == "did you mean 'contact'?"
    assert text.suggestion("zzz", ["contact", "api"]) == "known are contact, api"


@pytest.mark.parametrize("sign", "=+-@＝＋－＠")
def test_no_cell_of_a_spreadsheet_begins_like_a_formula(sign):
    for before in ("", " ", "\t", "a;", "a; ", "a\t", "a|", "a\n", "a\r\n"):
        cell = text.spreadsheet_cell(f"{before}{sign}cmd()")
        for part in re.split("[;\t|\n\r]", cell):
            assert not part.strip().startswith(tuple("=+-@＝＋－＠")), repr(cell)
    assert text.spreadsheet_cell(f"Ada {sign} Bo; x") == f"Ada {sign} Bo; x"


def test_a_cell_is_read_as_the_text_it_was_made_of():
    for length in range(6):
        for letters in itertools.product("=;' \tx＝", repeat=length):
            whole = "".join(letters)
            assert text.from_spreadsheet_cell(text.spreadsheet_cell(whole)) == whole
    assert text.from_spreadsheet_cell("'=1+1") == "=1+1"  # as version 1 wrote it
    assert text.from_spreadsheet_cell("'\tx") == "\tx"


@pytest.mark.parametrize("letters", ["\t", "\n", ";", " ", ";'", "'", "\t ", "="])
def test_a_long_row_of_the_same_letters_takes_no_time(letters):
    whole = letters * 20_000 + "x"
    begin = time.process_time()
    assert text.from_spreadsheet_cell(text.spreadsheet_cell(whole)) == whole
    assert time.process_time() - begin < 2


def test_a_pattern_of_many_wildcards_takes_no_time():
    begin = time.process_time()
    assert not text.wildcard(["", *"a" * 30, "b"]).fullmatch("a" * 200)
    assert text.wildcard(["", *"a" * 30, "b"]).fullmatch("a" * 200 + "b")
    assert time.process_time() - begin < 2


def test_markdown_shows_a_text_as_it_is():
    given = "<img src=x onerror=y> | a_b_ *c* [d](javascript:e) `f`\n# g ~~h~~ &amp;"
    said = text.markdown(given)
    assert "\n" not in said
    assert re.sub(r"\\(.)", r"\1", said) == given.replace("\n", " ")
    assert not re.search(r"(?<!\\)[<>|_*\[\]`#~&]", said)


def test_numbers_and_times_are_written_for_people():
    assert text.counted(1, "photo") == "1 photo" and text.counted(1200, "photo") == "1,200 photos"
    assert (
        text.counted(0, "person", "people") == "0 people"
        and text.counted(1, "person", "people") == "1 person"
    )
    assert [text.duration(s) for s in (4.21, 720.0, 12600.0, float("nan"))] == [
        "4.2 s",
        "12 min",
        "3.5 h",
        "–",
    ]
