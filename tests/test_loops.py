"""A runaway model is seen as looping; what people write is not."""

import random
import time

import pytest

from gateway.loops import ends_in_loop

PROSE = (
    "The harbour was quiet that morning. A few boats lay at anchor, and the gulls had not yet "
    "begun their noise. Anna counted her nets, found two of them torn, and sat down to mend them. "
)


@pytest.mark.parametrize(
    "text",
    [
        PROSE + "I am here to help. " * 12,
        PROSE + "I am here to help. " * 12 + "I am he",
        PROSE + "the the the " * 12,
        "no " * 30,
        "!" * 150,
        "Well" + "\n" * 200,
        "好的我明白了。" * 20,
        '{"items": [' + "0, " * 60,
        "\n".join(["- Buy milk, eggs, bread and butter"] * 10),
        # The blanks between the words vary, so that only the words repeat.
        "".join(f"again and{' ' * (i % 3 + 1)}again we go" + "\n" * (i % 2 + 1) for i in range(12)),
        PROSE * 6,
        # A period too long for the look at characters, cut in the middle of a word.
        (PROSE + "Meanwhile fishermen discussed yesterday's disappointing catch. " * 2) * 5
        + "The h",
        PROSE + "yes sir " * 30 + "   \n\n",
    ],
)
def test_loops(text: str) -> None:
    assert ends_in_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello!",
        PROSE,
        PROSE * 2,
        "ha ha ha ha ha",
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily.",
        "Title\n" + "=" * 79,
        "| a | b | c |\n|---|---|---|\n" + "| 1 | 2 | 3 |\n" * 3,
        '{"vector": [' + ", ".join(["0"] * 200) + "]}",
        "\n".join(f"{i}. Step {i} of the plan" for i in range(60)),
        " ".join(str(i) for i in range(500)),
        # A loop that the model left again.
        "I am here to help. " * 12 + PROSE,
    ],
)
def test_no_loops(text: str) -> None:
    assert not ends_in_loop(text)


def test_random_words_are_no_loop() -> None:
    words = random.Random(7)
    for _ in range(50):
        text = " ".join(words.choice(["red", "green", "blue"]) for _ in range(400))
        assert not ends_in_loop(text)


@pytest.mark.parametrize("text", ["a" * 2**18, "ab " * 2**16, ("ab" * 300 + "c") * 400])
def test_a_long_text_takes_no_longer(text: str) -> None:
    start = time.process_time()
    ends_in_loop(text)
    assert time.process_time() - start < 0.5
