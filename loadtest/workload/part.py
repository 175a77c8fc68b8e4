"""What every part of a workload's description shares."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A section: no field that it does not know, no NaN or infinity unless a field says so."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        ser_json_inf_nan="strings",
        use_attribute_docstrings=True,
    )
