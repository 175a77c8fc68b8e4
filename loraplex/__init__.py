"""Loraplex: one base model, a fine-tuned model for every customer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraplex.client import AsyncClient, Client, LoraplexError

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "LoraplexError", "__version__"]


def __getattr__(name: str) -> Any:
    """The client is imported when it is asked for, so that the command starts quickly."""
    if name in __all__:
        return getattr(import_module("loraplex.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
