"""What a conversation may hold: no media by URL, file or handle, no reference to stored items."""

from collections.abc import Iterator
from typing import Any

from gateway import bounds
from gateway.config import Limits
from gateway.errors import BadRequest

_NESTED = ("content", "output", "source")
_URL_KEYS = ("image_url", "video_url", "audio_url", "file_url")
_FILE_KEYS = ("file_id", "file")
_TENSOR_KEYS = ("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil")
# A part with none of these needs no closer look; there may be very many parts.
_TYPES = ("url", "item_reference", "tool_addition", *_TENSOR_KEYS)
_KEYS = frozenset({*_URL_KEYS, *_FILE_KEYS, *_TENSOR_KEYS, "uuid"})


def conversation(field: str, value: Any, limits: Limits) -> None:
    """Checks messages, input items or content blocks. Raises BadRequest."""
    if value == []:
        raise BadRequest(f"`{field}` must not be empty.", param=field)
    if not _needs_a_look(value):
        return
    for path, part in _parts(field, value):
        if _KEYS.isdisjoint(part) and part.get("type") not in _TYPES:
            continue
        _check_urls(path, part)
        _check_files(path, part)
        _check_handles(path, part)
        if part.get("type") == "tool_addition":
            # vLLM adds it to the request's tools.
            bounds.schema(path, part, limits)


def _needs_a_look(value: Any) -> bool:
    """Whether any part could be refused: the same walk as `_parts`, without the paths."""
    rest = [value]
    for node in rest:  # It grows on the way.
        if isinstance(node, list):
            rest += node
        elif isinstance(node, dict):
            if not _KEYS.isdisjoint(node) or node.get("type") in _TYPES:
                return True
            for name in _NESTED:
                if name in node and not isinstance(node[name], str):
                    rest.append(node[name])
    return False


def _parts(field: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every message and every part of one, however nested, with its path. Other values pass by: the
    arguments of a tool call are the client's own data, whatever their keys.
    """
    rest = [(field, value)]
    while rest:
        path, node = rest.pop()
        if isinstance(node, list):
            rest.extend(
                (f"{path}[{index}]", child)
                for index, child in enumerate(node)
                if isinstance(child, dict)
            )
        elif isinstance(node, dict):
            yield path, node
            rest.extend((f"{path}.{name}", node[name]) for name in _NESTED if name in node)


def _check_urls(path: str, part: dict[str, Any]) -> None:
    keys = (*_URL_KEYS, "url") if part.get("type") == "url" else _URL_KEYS
    for key in keys:
        url = part.get(key)
        if isinstance(url, dict):
            url = url.get("url")
        if url is not None and not (isinstance(url, str) and url.startswith("data:")):
            raise BadRequest(
                "Media by URL is not fetched: send it in the request as a `data:` URL.",
                param=f"{path}.{key}",
            )


def _check_files(path: str, part: dict[str, Any]) -> None:
    for key in _FILE_KEYS:
        file = part.get(key)
        if isinstance(file, dict):
            file = file.get("file_id")
        if file is not None:
            raise BadRequest(
                "No files are stored here: send the content in the request.", param=f"{path}.{key}"
            )


def _check_handles(path: str, part: dict[str, Any]) -> None:
    if part.get("type") == "item_reference":
        raise BadRequest(
            "Responses are stateless here: send the item itself, not a reference to it.", param=path
        )
    if part.get("uuid") is not None:
        # vLLM's media cache is shared by all callers, and this is a key to it.
        raise BadRequest("Media cannot be named by `uuid`: send it.", param=f"{path}.uuid")
    for key in _TENSOR_KEYS:
        if part.get(key) is not None or part.get("type") == key:
            raise BadRequest(f"Tensors (`{key}`) are not taken: send text.", param=f"{path}.{key}")
