"""What users do with PEFT: `python -m benchmarks.merging.peft_side BASE ADAPTER OUT [low]`.

low: the adapter's empty weights are not made before they are read, PEFT's `low_cpu_mem_usage`.
transformers 5 always loads the base that way.
"""

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def main() -> None:
    base, adapter, out, *low = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    tuned = PeftModel.from_pretrained(model, adapter, low_cpu_mem_usage=low == ["low"])
    tuned.merge_and_unload().save_pretrained(out)


if __name__ == "__main__":
    main()
