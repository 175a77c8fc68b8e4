"""Whether this CPU multiplies bfloat16 in hardware; elsewhere it is several times slower."""


def cpu_has_bfloat16() -> bool:
    """For the trainer and the judging engine alike. Imports torch."""
    import torch

    flags = torch.cpu.get_capabilities()
    return any(flags.get(flag) for flag in ("amx_bf16", "avx512_bf16", "bf16"))
