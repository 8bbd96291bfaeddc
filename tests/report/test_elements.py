"""Elements: texts stay texts, as markup and as JSON."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.report.hostile import NASTY
from tpo_graph.report.elements import h, markup, one_line, plain, visible


class Texts(HTMLParser):
    """What a parser makes of markup: tags, attribute values and texts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


LETTERS = st.one_of(st.sampled_from("<>&\"'/!abx;#= "), st.characters())


@given(st.text(LETTERS), st.text(LETTERS, min_size=1))
@example(NASTY, NASTY)
def test_any_text_is_read_back_as_text(text: str, value: str):
    element = h("p", text, title=value)
    parsed = Texts("".join(markup(element)))
    assert parsed.tags == ["p"]
    assert parsed.values == [visible(value)]
    assert parsed.text == visible(text)
    assert json.loads(json.dumps(plain(element))) == [
        "p",
        {"title": visible(value)},
        [visible(text)],
    ]


def test_what_cannot_be_seen_is_named():
    assert visible("a\x00b\x1b[0m\x7f\x85") == "a␀b␛[0m␡[U+0085]"
    assert visible("\u202eabc\u2069") == "[U+202E]abc[U+2069]"
    assert visible("one\r\ntwo\rthree\ttab") == "one\ntwo␍three\ttab"
    assert visible("half \ud83d") == "half \ufffd"
    assert visible("עברית \u200f") == "עברית \u200f"  # marks that reorder nothing stay


@pytest.mark.parametrize("end", ["</script>", "<!--"])
def test_a_script_cannot_be_ended_early(end: str):
    with pytest.raises(ValueError, match="would end"):
        "".join(markup(h("script", f"let x = '{end}'")))


def test_one_line_is_cut():
    assert one_line(" a\n b ", 10) == "a b"
    assert one_line("word " * 100, 10) == "word word…"
    assert len(one_line("x" * 10**6, 10)) == 10
