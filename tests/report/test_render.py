"""What templates make of texts: a text stays a text, as markup and as JSON."""

from html.parser import HTMLParser

from hypothesis import example, given
from hypothesis import strategies as st

from tests.report.hostile import NASTY
from tpo_graph.report.render import macros, plain
from tpo_graph.report.wording import number, one_line, visible


class Texts(HTMLParser):
    """What a parser makes of markup: tags, attribute values and texts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(str(source))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


LETTERS = st.one_of(st.sampled_from("<>&\"'/!abx;#= "), st.characters())


@given(st.text(LETTERS, min_size=1), st.text(LETTERS, min_size=1))
@example(NASTY, NASTY)
@example("\ufffe\uffff\x0c\x85", "\t\n")
def test_any_text_is_read_back_as_text(text: str, label: str):
    markup = macros("parts.html").text(text, label, "kind")
    parsed = Texts(markup)
    assert parsed.tags == ["div"]
    assert parsed.values == ["text kind", "auto"]
    assert parsed.text == visible(text)
    assert plain(markup) == [["div", {"class": "text kind", "dir": "auto"}, [visible(text)]]]
    labelled = macros("parts.html").facts([(label, text)])
    assert Texts(labelled).text == visible(label) + visible(text)
    assert plain(labelled)


def test_what_cannot_be_seen_is_named():
    assert visible("a\x00b\x1b[0m\x7f\x85") == "a␀b␛[0m␡[U+0085]"
    assert visible("\u202eabc\u2069") == "[U+202E]abc[U+2069]"
    assert visible("one\r\ntwo\rthree\ttab") == "one\ntwo␍three\ttab"
    assert visible("half \ud83d") == "half \ufffd"
    assert visible("עברית \u200f") == "עברית \u200f"  # marks that reorder nothing stay


def test_one_line_is_cut():
    assert one_line(" a\n b ", 10) == "a b"
    assert one_line("word " * 100, 10) == "word word…"
    assert len(one_line("x" * 10**6, 10)) == 10


def test_a_difference_too_small_to_show_has_no_sign_of_its_own():
    assert number(-0.0001) == number(0.0) == "0.000"
    assert number(-0.0001, signed=True) == "+0.000"
