"""Load YAML that may be hostile: plain data of bounded size, or one error on one line."""

from __future__ import annotations

from typing import Any, Final

import yaml

from opendance_hf.errors import OpenDanceError, one_line

_MAX_CHARACTERS: Final = 1 << 20
#: Most values of a document, those that aliases repeat counted as often as they are repeated.
_MAX_VALUES: Final = 100_000


class PlainYAMLError(OpenDanceError, ValueError):
    """Raised for a text that is not YAML of plain data, or too large; the message has the cause and its place."""


def load_yaml(text: str) -> Any:
    """Return the plain data of a YAML document: mappings, lists, numbers, text, dates.

    Raises:
        PlainYAMLError: if it cannot be parsed, names anything but plain data, is longer than a mebibyte, or if its aliases
            stand for more than 100,000 values (or for themselves).
    """
    if len(text) > _MAX_CHARACTERS:
        raise PlainYAMLError(f"{len(text):,} characters, at most {_MAX_CHARACTERS:,} are read")
    try:
        content = yaml.safe_load(text)
        count = _count(content, {})
    # PyYAML converts what looks like a number or a date without checking it.
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise PlainYAMLError(one_line(error)) from None
    except RecursionError:
        raise PlainYAMLError("its values are nested too deeply, or in themselves") from None
    if count > _MAX_VALUES:
        raise PlainYAMLError(
            f"its aliases (*name) stand for {count:.3g} values, at most {_MAX_VALUES:,} are read"
        )
    return content


def _count(value: Any, known: dict[int, int]) -> int:
    """Return the number of values in a document; ``known`` has those of containers that were counted before."""
    if not isinstance(value, dict | list | set):
        return 1
    if id(value) not in known:
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(item, known) for item in inner)
    return known[id(value)]
