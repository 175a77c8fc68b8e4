"""An adapter taken out of a full fine-tune: its difference from the base, cut to a rank."""

from training.merge.extract.extraction import Extracted, extract
from training.merge.extract.left_out import LeftOut
from training.merge.extract.module import ExtractedModule

__all__ = ["Extracted", "ExtractedModule", "LeftOut", "extract"]
