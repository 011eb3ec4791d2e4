"""Read, change, check and write the configuration of a pipeline, a YAML list of stages, and compute its fingerprint.

    - probe: {min_duration_s: 4.0}
    - detect:
        detector: yolox:my.onnx
    - gate: {max_camera_motion: 0.6}

Omitted fields have their defaults. A backend is given as ``NAME``, ``NAME:FILE``, or a mapping from its name to its
fields.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

import yaml

from opendance_hf.errors import OpenDanceError, one_line, shown
from opendance_hf.pipeline.backends import BACKENDS, backend_class, make_backend
from opendance_hf.pipeline.backends.base import Backend, BackendError
from opendance_hf.pipeline.clip import Repair
from opendance_hf.pipeline.pipelines import STAGES, Pipeline
from opendance_hf.pipeline.stage import Stage
from opendance_hf.plain_yaml import PlainYAMLError, load_yaml
from opendance_hf.schema import COLUMNS

#: Name of the configuration file in the build folder.
CONFIG: Final = "pipeline.yaml"
#: Fields of a clip that are set before the first stage.
_INITIAL_FIELDS: Final = frozenset(
    {"path", "sha256", "start_s", "end_s", "columns", "scores", "repairs", "backends"}
)


#: Ends of the names of fields that must not be 0.
_POSITIVE: Final = (
    "_hz",
    "_px",
    "_threads",
    "max_dancers",
    "heatmap_window",
    "region_median",
    "median_frames",
)


class ConfigError(OpenDanceError, ValueError):
    """Raised for an invalid configuration; the message has the place, the value found and what was expected."""


def read_config(path: Path) -> Pipeline:
    """Read a pipeline from a YAML file.

    Raises:
        ConfigError: if the file cannot be read, or is not a list of known stages with known fields.
        BackendError: if it names an unknown backend.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, PlainYAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({one_line(error)})") from None
    try:
        return parse_config(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def stages_in(path: Path) -> dict[str, Stage]:
    """Return the stages of a configuration file by name; empty if it cannot be read."""
    try:
        return {stage.name: stage for stage in read_config(path)}
    except (ConfigError, BackendError):
        return {}


def parse_config(content: Any) -> Pipeline:
    """Return the pipeline that a list of ``{stage: {field: value}}`` describes; see :func:`read_config`."""
    if not isinstance(content, list) or not content:
        raise ConfigError("expected a list of stages, such as '- probe: {min_duration_s: 4.0}'")
    stages = []
    for number, entry in enumerate(content, 1):
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ConfigError(f"entry {number}: expected one stage with its fields, got {shown(entry)}")
        ((name, values),) = entry.items()
        if name not in STAGES:
            raise ConfigError(
                f"entry {number}: unknown stage {shown(name)}: expected one of {', '.join(STAGES)}"
            )
        stages.append(_with_fields(STAGES[name](), {} if values is None else values, str(name)))
    return check_pipeline(tuple(stages))


def check_pipeline(pipeline: Pipeline) -> Pipeline:
    """Check that every stage reads only fields that earlier stages write, and that one writes ``sequence``.

    Returns:
        The same pipeline.

    Raises:
        ConfigError: naming the stage and the field.
    """
    written: dict[str, str] = dict.fromkeys(_INITIAL_FIELDS, "")
    names = [stage.name for stage in pipeline]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"stage {name!r} is listed {names.count(name)} times: expected each stage once")
    for stage in pipeline:
        reads = (*stage.reads, *(name for backend in stage.backends.values() for name in backend.reads))
        missing = [name for name in reads if name not in written]
        if missing:
            writers = [other.name for other in STAGES.values() if missing[0] in other.writes]
            raise ConfigError(
                f"stage {stage.name!r} reads {missing[0]!r}, which no stage before it writes; put "
                f"{' or '.join(writers) or 'a stage that writes it'} before it"
            )
        written |= dict.fromkeys(stage.writes, stage.name)
    if "sequence" not in written:
        raise ConfigError("no stage writes the field 'sequence': add the stage 'sequence'")
    columns = {name for stage in pipeline for name in stage.columns}
    missing = [name for name, column in COLUMNS.items() if column.required and name not in columns]
    if missing:
        adding = [stage.name for stage in STAGES.values() if missing[0] in stage.columns]
        raise ConfigError(
            f"no stage adds the column {missing[0]!r}, which every row needs: add {' or '.join(adding) or 'one'}"
        )
    return pipeline


def change_pipeline(pipeline: Pipeline, changes: Iterable[str]) -> Pipeline:
    """Return the pipeline with single fields changed.

    Args:
        pipeline: the pipeline to change.
        changes: changes of the form ``stage.field=value`` or ``stage.backend.field=value``; values are read as YAML.

    Raises:
        ConfigError: if a change has another form, or names an unknown stage or field.
    """
    for change in changes:
        place, equals, text = change.partition("=")
        if not equals or "." not in place:
            raise ConfigError(f"cannot read the change {shown(change)}: expected STAGE.FIELD=VALUE")
        try:
            value = load_yaml(text)
        except PlainYAMLError:
            value = text
        pipeline = set_field(pipeline, place, value)
    return check_pipeline(pipeline)


def set_field(pipeline: Pipeline, place: str, value: Any) -> Pipeline:
    """Return the pipeline with one field, ``stage.field`` or ``stage.backend.field``, set.

    Raises:
        ConfigError: if the stage or field is unknown, or the value has the wrong type.
    """
    name, *path = place.split(".")
    if name not in (known := [stage.name for stage in pipeline]):
        raise ConfigError(
            f"{shown(place)}: no stage {shown(name)} in the pipeline: expected one of {', '.join(known)}"
        )
    for key in reversed(path):
        value = {key: value}
    return tuple(_with_fields(stage, value, name) if stage.name == name else stage for stage in pipeline)


def dump_config(pipeline: Pipeline) -> str:
    """Return the complete configuration as YAML: all stages with all fields."""
    content = [
        {stage.name: {f.name: _to_yaml(getattr(stage, f.name)) for f in fields(stage)}} for stage in pipeline
    ]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def prepare_pipeline(pipeline: Pipeline) -> Pipeline:
    """Find and check the users' files of all backends, and return the pipeline with their paths and hashes.

    Raises:
        ConfigError: naming every missing or invalid file, where to get it and where to put it.
    """
    problems: list[str] = []
    stages = []
    for stage in pipeline:
        prepared: dict[str, Any] = {}
        for name, backend in stage.backends.items():
            try:
                prepared[name] = backend.prepare()
            except ValueError as error:
                problems.append(f"- {stage.name}.{name}: {error}")
        stages.append(replace(stage, **prepared))
    if problems:
        raise ConfigError("files of the chosen backends are missing or invalid:\n" + "\n".join(problems))
    return tuple(stages)


def digest(*parts: Any) -> str:
    """Return a short hash of values that JSON can hold, dataclasses included."""
    text = json.dumps(parts, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pipeline_fingerprint(pipeline: Pipeline) -> str:
    """Return a short hash of everything that rows depend on: stages, versions, fields, and content of files."""
    return digest(*(stage.fingerprinted() for stage in pipeline if stage.changes_rows))


def work_fingerprint(pipeline: Pipeline, repairs: tuple[Repair, ...] = ()) -> str:
    """Return :func:`pipeline_fingerprint`, and ``stage:hash`` for every stage that rows do not depend on.

    The parts are separated by spaces, see ``Ledger.add``. The first has the repairs of the video, if there are any.
    """
    others = [f"{s.name}:{digest(s.fingerprinted())}" for s in pipeline if not s.changes_rows]
    return with_repairs(" ".join([pipeline_fingerprint(pipeline), *others]), repairs)


def with_repairs(fingerprint: str, repairs: tuple[Repair, ...]) -> str:
    """Return a :func:`work_fingerprint` with the repairs of a video in place of those that it has."""
    first, space, others = fingerprint.partition(" ")
    first = first.partition("+")[0] + (f"+{digest(repairs)}" if repairs else "")
    return f"{first}{space}{others}"


def has_repairs(fingerprint: str) -> bool:
    """Return whether a :func:`work_fingerprint` has repairs."""
    return "+" in fingerprint.partition(" ")[0]


def _with_fields(record: Any, values: Any, where: str) -> Any:
    """Return a stage, backend or nested dataclass with some of its fields set."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected fields with values, got {shown(values)}")
    known = {f.name: f for f in fields(record)}
    hints = get_type_hints(type(record))
    new = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(
                f"{where}: unknown field {shown(name)}: expected one of {', '.join(known) or 'none'}"
            )
        new[name] = _convert_field(known[name], hints[name], getattr(record, name), value, f"{where}.{name}")
    return replace(record, **new)


def _convert_field(field: Field[Any], kind: Any, current: Any, value: Any, where: str) -> Any:
    role = field.metadata.get("role")
    if role is not None:
        if value is None and type(None) in get_args(kind):
            return None
        return _backend(role, current, value, where)
    if is_dataclass(current):
        return _with_fields(current, value, where)
    if get_origin(kind) is tuple:
        inner = [item for item in get_args(kind) if item is not Ellipsis]
        if not isinstance(value, list | tuple) or (
            Ellipsis not in get_args(kind) and len(value) != len(inner)
        ):
            raise ConfigError(f"{where}: expected {len(inner)} values, got {shown(value)}")
        kinds = inner * len(value) if Ellipsis in get_args(kind) else inner
        return tuple(_convert_plain(k, v, where) for k, v in zip(kinds, value, strict=True))
    return _convert_plain(kind, value, where)


def _convert_plain(kind: Any, value: Any, where: str) -> Any:
    """Convert a value to a plain type, such as float or None.

    Raises:
        ConfigError: if it has another type.
    """
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    for expected in kinds:
        if expected is float and type(value) in (str, int):
            with contextlib.suppress(ValueError, OverflowError):
                value = float(value)  # YAML 1.1 reads 1e-3 as text
        if type(value) is not expected:
            continue
        if expected in (int, float):
            positive = where.endswith(_POSITIVE)
            if not (value > 0 if positive else value >= 0):  # NaN is neither
                least = "greater than 0" if positive else "0 or greater"
                raise ConfigError(f"{where}: expected a number {least}, got {shown(value)}")
        return value
    names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
    raise ConfigError(f"{where}: expected a {names}, got {shown(value)}")


def _backend(role: str, current: Backend | None, value: Any, where: str) -> Backend:
    if isinstance(value, str):
        return make_backend(role, value)
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in BACKENDS[role]:
        ((name, inner),) = value.items()
        # The same backend keeps its other fields, so that several changes add up.
        start = current if current is not None and current.name == name else backend_class(role, str(name))()
        made: Backend = _with_fields(start, {} if inner is None else inner, f"{where}.{name}")
        return made
    if isinstance(value, Mapping) and current is not None:
        changed: Backend = _with_fields(current, value, where)
        return changed
    raise ConfigError(f"{where}: expected a {role} by name, or its name with its fields, got {shown(value)}")


def _to_yaml(value: Any) -> Any:
    if isinstance(value, Backend):
        return {value.name: {f.name: _to_yaml(getattr(value, f.name)) for f in fields(value)}}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_yaml(getattr(value, f.name)) for f in fields(value)}
    return value
