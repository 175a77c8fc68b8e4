"""Which inputs ask the same, and which only look as if they did."""

from itertools import combinations

import pytest

from tests.rows_for_tests import chat, requests
from training.data.nearness import Nearness, edits, nearness
from training.data.similar import compare_rows
from training.data.texts import words_of

LONG = (
    "Dear team, on Tuesday evening I noticed that the heating in the meeting room had failed again,"
    " so that we worked in our coats for hours. The caretaker promised to look after it before the"
    " weekend, yet nobody came, and the thermometer on the wall shows little hope for tomorrow."
)


def _near(first: str, second: str) -> Nearness:
    return nearness(words_of(first), words_of(second), 1000, lambda _: 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What's the weather in Oslo?", "whats the weather in oslo"),
        ("How do I reset my password?", "How can I reset the password?"),
        ("Reset my password", "Please, reset my password!"),
        ("Where are my cards", "Where is my card?"),
        ("How do I reset my password?", "How do I reset my pasword?"),
        ("Show the statement", "Show the statment"),
        ("my top-up (card) failed", "My top up card failed."),
        ("天気はどうですか", "天気はどうですか。"),
    ],
)
def test_style_fillers_plurals_and_typing_errors_ask_the_same(first: str, second: str) -> None:
    assert _near(first, second) is Nearness.SAME


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Play Thriller", "Play Imagine"),
        ("What's the weather in NV", "What's the weather in NY"),
        ("What's the weather in Oslo", "What's the weather in Oslo tomorrow"),
        ("Book a table for 4", "Book a table for 5"),
        ("Call Anna", "Call Anne"),
        ("from Oslo to Rome", "from Rome to Oslo"),
        ("I can pay", "I can not pay"),
        ("Turn the light on", "Turn the light off"),
        ("hello", "hello hello hello"),
        ("5 * 3", "5 - 3"),
        ("2*(3+4)", "2*3+4"),
        ("???", "!!!"),
        ("大阪の天気", "東京の天気"),
        (f"{LONG} We paid 40 euros.", f"{LONG} We paid 50 euros."),
    ],
)
def test_another_name_number_or_place_is_another_question(first: str, second: str) -> None:
    assert _near(first, second) is Nearness.DISTINCT


def test_a_long_text_with_a_changed_word_is_alike_but_not_the_same() -> None:
    assert _near(LONG, LONG.replace("evening", "night")) is Nearness.ALIKE


def test_a_templates_words_weigh_nothing() -> None:
    """Two short questions in the same long frame are two questions."""
    counts = dict.fromkeys(words_of(LONG), 1000)
    first, second = words_of(f"{LONG} my card was lost"), words_of(f"{LONG} my order came broken")
    assert nearness(first, second, 1000, lambda word: counts.get(word, 5)) is Nearness.DISTINCT


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("card", "card", 0),
        ("card", "cards", 1),
        ("recieve", "receive", 1),
        ("ab", "ba", 1),
        ("monday", "sunday", 2),
        ("abc", "xyz", 3),
        ("a", "abcde", 3),
    ],
)
def test_edits_count_letters_to_change(one: str, other: str, count: int) -> None:
    assert edits(one, other) == count


def test_groups_hold_copies_and_near_copies_and_nothing_else() -> None:
    rows = requests(300)
    prompts = [row.prompt[0]["content"] for row in rows]
    planted = [f"Please {prompts[3]}", prompts[3].upper(), prompts[7], f"{prompts[9]}!"]
    origins = [3, 3, 7, 9]
    rows += [chat(301 + i, text, "{}") for i, text in enumerate(planted)]
    groups = compare_rows(rows).groups.tolist()
    together = {
        (one, other)
        for one, other in combinations(range(len(rows)), 2)
        if groups[one] == groups[other]
    }
    expected = {(origin, 300 + i) for i, origin in enumerate(origins)} | {(300, 301)}
    assert together == expected


def test_the_system_prompt_that_all_rows_share_does_not_make_them_alike() -> None:
    system = {"role": "system", "content": LONG}
    rows = [chat(i, text, "x") for i, text in enumerate(("Play Thriller", "Play Imagine"), start=1)]
    rows = [type(row)(row.line, (system, *row.prompt), row.answer) for row in rows]
    similar = compare_rows(rows)
    assert similar.prints.shared_system == LONG
    assert similar.groups.tolist() == [0, 1]


def test_a_frame_around_every_input_does_not_make_them_alike() -> None:
    rows = [
        chat(row.line, f"{LONG} {row.prompt[0]['content']}", row.answer["content"])
        for row in requests(200)
    ]
    assert compare_rows(rows).groups.tolist() == [*range(200)]
