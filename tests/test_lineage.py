"""What an adapter's own files add to its lineage, and how its base is compared with ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.errors import UnknownVersion
from adapters_registry.lineage import check_parent, completed, differences
from adapters_registry.types import BaseIdentity, Lineage, VersionState
from tests.adapters_for_tests import tiny_base

COMMIT, OTHER_COMMIT = "a" * 40, "b" * 40
SHA, OTHER_SHA = "1" * 64, "2" * 64


def _folder(tmp_path: Path, **config: Any) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


# What the files add


def test_the_files_name_the_base_where_the_maker_does_not(tmp_path: Path) -> None:
    folder = _folder(tmp_path, base_model_name_or_path="org/model", revision="main")
    base = completed(Lineage(dataset="v3"), folder).base
    assert (base.name, base.revision) == ("org/model", "main")
    said = Lineage(base=BaseIdentity(name="org/other", revision=COMMIT))
    assert completed(said, folder) == said
    assert completed(Lineage(dataset="v3"), folder).dataset == "v3"


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("org/model", "org/model"),
        ("/home/alice/models/tiny/", "tiny"),
        ("./models/tiny", "tiny"),
        ("~/tiny", "tiny"),
        ("C:\\Users\\alice\\tiny", "tiny"),
        ("..\\tiny\\", "tiny"),
        ("/", None),
        ("..", ".."),
        ("", None),
        (None, None),
        (7, None),
        ("x" * 513, None),
        ("a\nb", None),
        ("\ud800", None),
        ("\x1b[31m", None),
    ],
)
def test_only_a_name_fit_to_be_shown_is_taken(
    tmp_path: Path, named: object, kept: str | None
) -> None:
    found = completed(Lineage(), _folder(tmp_path, base_model_name_or_path=named))
    assert found.base.name == kept
    assert Lineage.model_validate_json(found.model_dump_json()) == found


# Parents


def test_a_parent_is_a_number_that_was_given() -> None:
    states = {1: VersionState.DELETED, 2: VersionState.LIVE}
    check_parent(Lineage(), states)
    for number in states:
        check_parent(Lineage(parent=number), states)
    with pytest.raises(UnknownVersion, match=r"lineage\.parent: version 3") as refused:
        check_parent(Lineage(parent=3), states)
    assert refused.value.field == "lineage.parent"


# Differences


SERVED = tiny_base().model_copy(
    update={
        "revision": COMMIT,
        "config_sha256": SHA,
        "tokenizer_sha256": SHA,
        "chat_template": "{{ messages }}",
        "rope_scaling": {"factor": 2.0},
    }
)


def _same() -> dict[str, Any]:
    """A lineage that says of every field what is so of SERVED."""
    return {
        "base": {
            "revision": COMMIT,
            "config_sha256": SHA,
            "rope_scaling": {"factor": 2.0},
        },
        "tokenizer_sha256": SHA,
        "chat_template_sha256": SERVED.chat_template_sha256,
    }


@pytest.mark.parametrize("lineage", [{}, _same()])
@pytest.mark.parametrize("base", [SERVED, tiny_base()])
def test_what_is_the_same_or_not_known_says_nothing(
    lineage: dict[str, Any], base: BaseModelSpec
) -> None:
    if base is not SERVED and lineage:
        lineage = {name: value for name, value in lineage.items() if name != "base"}
    assert differences(Lineage.model_validate(lineage), base) == ()


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"base": {"revision": OTHER_COMMIT}}, "another revision of the base ('bbbbbbbbbbbb')"),
        ({"base": {"config_sha256": OTHER_SHA}}, "another config of the base ('222222222222')"),
        ({"tokenizer_sha256": OTHER_SHA}, "another tokenizer"),
        ({"chat_template_sha256": OTHER_SHA}, "another chat template"),
        ({"base": {"quantization": "awq"}}, "quantized as 'awq', served on one with no quant"),
        ({"base": {"rope_scaling": {"factor": 4.0}}}, "another RoPE scaling"),
        ({"base": {"rope_scaling": {}}}, "another RoPE scaling"),
    ],
)
def test_each_difference_is_a_warning(change: dict[str, Any], warning: str) -> None:
    (found,) = differences(Lineage.model_validate(change), SERVED)
    assert warning in found


def test_a_branch_is_not_taken_for_another_commit() -> None:
    assert differences(Lineage(base=BaseIdentity(revision="main")), SERVED) == ()


def test_a_maker_s_word_in_a_warning_is_escaped() -> None:
    said = Lineage(base=BaseIdentity(quantization="\x1b[2J\n# x"))
    (found,) = differences(said, SERVED)
    assert found.isprintable()
