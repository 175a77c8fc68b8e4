"""Ten runs with nothing wrong, of other rows, seeds, layouts, methods: any alarm is a false one."""

from dataclasses import replace

from benchmarks.planting.cases import (
    TEST_ROWS,
    TRAIN_ROWS,
    VALIDATION_ROWS,
    Trial,
    good_trial,
    parted,
)
from benchmarks.planting.rows import ANIMALS, COLOURS, PLACES, at_length, in_json, make_pairs

_ALL = TRAIN_ROWS + VALIDATION_ROWS + TEST_ROWS


def good_runs() -> dict[str, Trial]:
    """By name, in the order of the report."""
    seeded = {"schedule": {"seed": 11}}
    return {
        "four classes": good_trial(11),
        "four classes, another seed": replace(good_trial(12), changes=seeded),
        "six classes, as CSV": replace(good_trial(13, ANIMALS), layout="csv"),
        "a class for each of many words": good_trial(14, PLACES, rows=480),
        "JSON answers": parted(make_pairs(_ALL, 15, COLOURS, in_json)),
        "JSON answers, prompt and completion, packed": replace(
            parted(make_pairs(_ALL, 16, ANIMALS, in_json)),
            layout="prompt",
            changes={"schedule": {"batching": "packed"}},
        ),
        "long answers, 640 rows": parted(make_pairs(_ALL + TRAIN_ROWS, 17, COLOURS, at_length)),
        "a system message": replace(good_trial(18, ANIMALS), system="cedar hazel"),
        "two turns": replace(good_trial(19), layout="turns"),
        "rsLoRA, rank 8": replace(
            good_trial(20), changes={"": {"method": "rslora"}, "adapter": {"rank": 8, "alpha": 16}}
        ),
    }
