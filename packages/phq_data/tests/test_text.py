"""Names from outside: exact ones for tables, harmless ones for people, near ones for those who mistyped."""

from __future__ import annotations

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
