"""Rows of CSV, through a template."""

from pathlib import Path

import pytest

from training.data.csv_rows import csv_columns, guess_template
from training.data.readers import read_rows
from training.data.rows import Chat
from training.errors import TrainingError
from training.recipe.recipe import RowTemplate

TEMPLATE = RowTemplate(prompt="{text}", answer="{category}", system=None, label=None)


def _file(folder: Path, content: bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _asked(path: Path, template: RowTemplate = TEMPLATE) -> list[tuple[int, str, str]]:
    rows = [row for row in read_rows(path, template).rows if isinstance(row, Chat)]
    return [(row.line, row.prompt[-1]["content"], row.answer["content"]) for row in rows]


def test_quotes_hold_commas_and_line_ends_and_lines_are_still_counted(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbftext,category\r\n"a, ""b""\r\nand c",one\r\nd,two\r\n'
    assert _asked(_file(tmp_path, content)) == [(2, 'a, "b"\r\nand c', "one"), (4, "d", "two")]


def test_a_template_writes_texts_around_columns_and_leaves_other_braces(tmp_path: Path) -> None:
    template = RowTemplate(
        prompt="Classify: {text}",
        answer='{"intent": "{category}"}',
        system="You know {lang}.",
        label="{category}",
    )
    path = _file(tmp_path, b"text,category,lang\nHi {there},greet,English\n")
    assert list(read_rows(path, template).rows) == [
        Chat(
            2,
            (
                {"role": "system", "content": "You know English."},
                {"role": "user", "content": "Classify: Hi {there}"},
            ),
            {"role": "assistant", "content": '{"intent": "greet"}'},
            "greet",
        )
    ]


@pytest.mark.parametrize(
    ("content", "name"), [(b"text;category\na;b\n", "x.csv"), (b"text\tcategory\na\tb\n", "x.tsv")]
)
def test_other_delimiters_are_found_in_the_header(
    tmp_path: Path, content: bytes, name: str
) -> None:
    assert _asked(_file(tmp_path, content, name)) == [(2, "a", "b")]


def test_every_bad_record_is_named_with_its_line_and_column(tmp_path: Path) -> None:
    content = b'text,category\na,b\nc\nd,\n"e"x,f\n\xff,g\nh,i\n'
    found = read_rows(_file(tmp_path, content), TEMPLATE)
    assert [row.line for row in found.rows] == [2, 7]
    assert [(error.line, error.field) for error in found.bad] == [
        (3, ""),
        (4, "category"),
        (5, ""),
        (6, ""),
    ]
    reasons = [error.problem for error in found.bad]
    assert "has 1 cells, the header 2" in reasons[0]
    assert "not empty" in reasons[1]
    assert "is not CSV" in reasons[2]
    assert "is not UTF-8" in reasons[3]


def test_a_quote_that_never_closes_is_named(tmp_path: Path) -> None:
    found = read_rows(_file(tmp_path, b'text,category\na,b\n"c,d\ne,f\n'), TEMPLATE)
    assert [row.line for row in found.rows] == [2]
    assert [error.line for error in found.bad] == [3]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"prompt": "{question}"}, "template.prompt: no column 'question'; there are: text, cat"),
        ({"label": "{kind}"}, "template.label: no column 'kind'; there are: text, category"),
        ({"prompt": "Hello"}, "template.prompt: takes no column"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(
    tmp_path: Path, template: dict[str, str], problem: str
) -> None:
    path = _file(tmp_path, b"text,category\na,b\n")
    with pytest.raises(TrainingError, match=problem):
        read_rows(path, TEMPLATE.model_copy(update=template))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"a,a\n1,2\n", "names a column twice: a"), (b"\n1,2\n", "has no header")],
)
def test_a_header_that_does_not_name_columns_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    with pytest.raises(TrainingError, match=problem):
        csv_columns(_file(tmp_path, content))


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["text", "category"], ("{text}", "{category}", "{category}")),
        (["id", "question", "answer"], ("{question}", "{answer}", None)),
        (["utterance", "what"], ("{utterance}", "{what}", None)),
        (["a", "b"], None),
        (["text", "b", "c"], None),
    ],
)
def test_usual_names_of_columns_make_a_template(
    columns: list[str], found: tuple[str, str, str | None] | None
) -> None:
    template = guess_template(columns)
    assert found == (template and (template.prompt, template.answer, template.label))
