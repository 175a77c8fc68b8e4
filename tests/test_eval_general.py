"""The suites of general ability: each rule can be met and can be missed, each text is its own."""

import pytest
from pydantic import ValidationError

from training.evaluation.suites.general import Rule, instructions, passed, texts

GOOD = {
    "capital-france": "The capital of France is Paris.",
    "water": "It is H₂O.",
    "add": "7 + 5 = 12.",
    "next-even": "10",
    "sentiment-good": "Positive",
    "repeat": '"The quick fox jumps."',
    "one-word": "Cat.",
    "yes-no": "No.",
    "uppercase": "HELLO",
    "spell": "c-a-t",
    "three-colours": "Red, green, blue",
    "numbered": "1. Dog\n2. Cat\n3. Cow",
    "json-person": '```json\n{"name": "Lena", "age": 30}\n```',
    "json-list": "[1, 2, 3]",
    "python-print": 'print("hi")',
}
BAD = {
    "capital-france": "It is Parisian life.",
    "water": "The formula is CO2.",
    "add": "12 is 7 plus 4, so the answer is 11.",
    "next-even": "12",
    "sentiment-good": "It is positive, not negative.",
    "repeat": "Sure! Here is the sentence that you wanted: The quick fox jumps.",
    "one-word": "The animal that says meow is a cat.",
    "yes-no": "No, yes",
    "uppercase": "hello",
    "spell": "cat",
    "three-colours": "1. Red\n2. Green\n3. Blue",
    "numbered": "Dog, cat and cow",
    "json-person": '{"name": "Lena"}',
    "json-list": '{"numbers": [1, 2, 3]}',
    "python-print": "echo hi",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_rule_takes_what_follows_the_instruction_and_nothing_else(name: str) -> None:
    rule = next(one.rule for one in instructions() if one.id == name)
    assert rule.met_by(GOOD[name])
    assert not rule.met_by(BAD[name])


def test_no_rule_is_met_by_silence_or_by_the_prompt_itself() -> None:
    suite = instructions()
    assert [one.id for one in suite if one.rule.met_by("")] == []
    # A model that repeats the request must not pass for one that follows it.
    echoed = {one.id for one in suite if one.rule.met_by(one.prompt)}
    assert echoed == set()


def test_instructions_and_texts_are_many_and_distinct() -> None:
    suite, general = instructions(), texts()
    assert len(suite) == len({one.id for one in suite}) == len({one.prompt for one in suite}) == 40
    assert len(general) == len({one.prompt for one in general}) == 40
    assert len({one.topic for one in general}) > 30


def test_the_pass_rate_counts_each_instruction_once() -> None:
    suite = [one for one in instructions() if one.id in GOOD][:4]
    metric = passed(suite, [GOOD[suite[0].id], "", GOOD[suite[2].id], ""])
    assert (metric.name, metric.value(), metric.binary) == ("general.instructions", 0.5, True)


def test_a_rule_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="a rule needs a field"):
        Rule()
