"""Check the values of a recipe's section against the signature of the class that takes them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

#: Numbers that may be 0, or less where another value is given, although their default is positive.
_LEAST: Final = {"songs": 0, "samples": 0, "save_rounds": 0, "save_total_limit": 0, "max_steps": -1}
#: Numbers that must be positive although their type or default does not tell.
_POSITIVE: Final = ("seconds", "num_train_epochs", "logging_steps", "save_steps")
#: Shares, and factors of running means.
_BELOW_1: Final = ("adam_beta1", "adam_beta2", "ema_decay", "dropout")


class OptionError(ValueError):
    """Raised for a value of another type or out of range; the message has the name, the value and what was expected."""


def parameters_of(kind: Any) -> dict[str, inspect.Parameter]:
    """Return the keyword arguments of a class by name, with evaluated annotations.

    If one cannot be evaluated, such as a name that is imported under ``TYPE_CHECKING``, those that are text are left out.
    """
    try:
        return dict(inspect.signature(kind, eval_str=True).parameters)
    except (NameError, AttributeError, TypeError, SyntaxError):
        parameters = inspect.signature(kind).parameters
        empty = inspect.Parameter.empty
        return {
            name: about.replace(annotation=empty) if isinstance(about.annotation, str) else about
            for name, about in parameters.items()
        }


def is_built_in(kind: Any) -> bool:
    """Return True for a class of OpenDance-HF or of transformers, whose numbers have known ranges."""
    return str(kind.__module__).partition(".")[0] in ("opendance_hf", "transformers")


def checked_option(
    name: str, value: Any, kind: Any, default: Any = None, *, number: str = "", ranges: bool = True
) -> Any:
    """Return a value that fits a type, whole numbers as int where int is expected.

    Args:
        name: of the option.
        value: as YAML has it.
        kind: expected type: bool, int, float, str, None, Literal, lists and tuples of these, and unions; others fit always.
        default: of the option; numbers whose default is positive must be positive.
        number: word for ``int`` and ``float`` in messages, instead of the names of the types.
        ranges: False to check only types: the ranges are those of built-in classes, see :func:`is_built_in`.

    Raises:
        OptionError: if it has another type, is NaN or infinite, or is out of range.
    """
    words = [word.value for one in _alternatives(kind) if isinstance(one, type(Enum)) for word in one]
    if words and isinstance(value, str) and value not in words:
        raise OptionError(f"{name}={value!r}, expected one of {', '.join(words)}")
    for one in _alternatives(kind):
        fits, converted = _converted(value, one)
        if fits:
            wanted = _range(name, default, converted) if ranges else ""
            if wanted:
                raise OptionError(f"{name}={value!r}, expected {_describe(kind, number)}, {wanted}")
            return converted
    raise OptionError(f"{name}={value!r}, expected {_describe(kind, number)}, got {type(value).__name__}")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else (kind,)


def _converted(value: Any, kind: Any) -> tuple[bool, Any]:
    """Return whether a value fits a type that is not a union, and the value as this type."""
    origin = get_origin(kind)
    if kind in (None, NoneType):
        return value is None, value
    if kind is bool or kind is str:
        return type(value) is kind, value
    if kind is int:
        whole = type(value) is int or (type(value) is float and value.is_integer())
        return whole, int(value) if whole else value
    if kind is float:
        # A whole number may be larger than any float.
        return type(value) in (int, float) and abs(value) <= sys.float_info.max, value
    if origin is Literal:
        return value in get_args(kind), value
    if origin in (list, tuple):
        inner = [item for item in get_args(kind) if item is not Ellipsis]
        if not isinstance(value, list | tuple):
            return False, value
        return all(
            any(_converted(v, one)[0] for i in inner for one in _alternatives(i)) for v in value
        ), value
    if origin in (dict, Mapping) or kind is dict:
        return isinstance(value, dict), value
    return True, value


def _range(name: str, default: Any, value: Any) -> str:
    """Return what is expected of a number that is out of range; empty if it is not."""
    if type(value) not in (int, float):
        return ""
    if name in _BELOW_1 and not 0 <= value < 1:
        return "from 0 to less than 1"
    if name.endswith("seed"):
        return "" if 0 <= value < 2**32 else "0 or more, below 2 ** 32"
    if name in _LEAST:
        return "" if value >= _LEAST[name] else f"{_LEAST[name]} or more"
    whole = type(value) is int and (default is None or (type(default) is int and default > 0))
    if (whole and not name.endswith("_layers")) or name in _POSITIVE:
        return "" if value > 0 else "positive"
    if default is None or (type(default) in (int, float) and default >= 0):
        return "" if value >= 0 else "0 or more"
    return ""


def _describe(kind: Any, number: str) -> str:
    names = []
    for one in _alternatives(kind):
        if number and one in (int, float):
            names.append(f"{number} (int)" if one is int else number)
        elif get_origin(one) is Literal:
            names += [repr(value) for value in get_args(one)]
        else:
            names.append(
                "None"
                if one is NoneType
                else getattr(one, "__name__", str(one))
                if get_origin(one) is None
                else str(one)
            )
    return " | ".join(names)
