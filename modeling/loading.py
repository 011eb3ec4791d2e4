"""Load trained models from a folder or the Hub, and check the kind of the model before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import FEATURE_EXTRACTOR_NAME, logging
from transformers.utils.hub import cached_file

from opendance_hf.errors import OpenDanceError, one_line, shown
from opendance_hf.files import names_a_folder
from opendance_hf.modeling.models import MODELS, extractor_for, resolve

_CONFIG: Final = "config.json"
#: Seconds to wait for the Hub.
_TIMEOUT_S: Final = 10.0
#: Largest number of layers, blocks or heads (``num_...``) in a configuration: a model is built before its weights are read.
_MAX_COUNT: Final = 10_000
#: Number of missing weights that an error names.
_NAMED: Final = 3


class ModelError(OpenDanceError, ValueError):
    """A model that cannot be loaded; the message has the name, what was found and what was expected."""


def model_type_of(name: str) -> str:
    """Read the kind of a model from its ``config.json``, without loading weights.

    Args:
        name: folder or Hub id (``user/name``).

    Returns:
        The ``model_type``, such as ``"bailando"``.

    Raises:
        ModelError: for a folder or repository that does not exist or has no model, or if the Hub does not answer.
    """
    return _read_config(name)[0]


def load_model(name: str, *, expected: tuple[str, ...], dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a model in evaluation mode.

    Args:
        name: folder or Hub id (``user/name``).
        expected: values of ``model_type`` that the caller can use.
        dtype: of the weights; by default as saved.

    Raises:
        ModelError: if the model does not exist, is of another kind, or a part of its weights is missing.
    """
    return _load(name, expected, dtype)[0]


def load_with_extractor(
    name: str, *, expected: tuple[str, ...], dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, Any]:
    """Load a model, and its feature extractor; a new one if the folder or repository has none.

    Args:
        name: see :func:`load_model`; likewise the others.
        expected: likewise.
        dtype: likewise.

    Raises:
        ModelError: see :func:`load_model`; also if the extractor cannot be read, or is neither in the cache nor to be had.
    """
    model, cached = _load(name, expected, dtype)
    return model, load_extractor(name, model.config, cached=cached)


def load_extractor(name: str, config: PreTrainedConfig, *, cached: bool = False) -> Any:
    """Load the feature extractor of a model; a new one if the folder or repository has none, None if it needs none.

    Args:
        name: folder or Hub id (``user/name``) of the model.
        config: of the model.
        cached: read the cache only, since the Hub did not answer.

    Raises:
        ModelError: if the file is damaged, or is neither in the cache nor to be had.
    """
    kind = MODELS[config.model_type].extractor
    if not kind:
        return None
    path = str(Path(name).expanduser()) if names_a_folder(name) else name
    try:
        with quiet_transformers():
            file = cached_file(
                path,
                FEATURE_EXTRACTOR_NAME,
                local_files_only=cached,
                _raise_exceptions_for_missing_entries=False,
            )
            if file is None:
                if cached and try_to_load_from_cache(name, FEATURE_EXTRACTOR_NAME) is None:
                    raise OSError(f"{FEATURE_EXTRACTOR_NAME} is not in the cache; load the model once online")
                return extractor_for(config)
            # Not by AutoFeatureExtractor, which does not know the class that earlier versions named.
            return resolve(kind).from_pretrained(path, local_files_only=cached)
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: its feature extractor cannot be loaded ({_first_line(error)})") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the tables and progress bars that ``transformers`` prints while it loads models."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with hide_progress_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Hide the progress bars that ``transformers`` prints while it loads and saves models."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def _load(name: str, expected: tuple[str, ...], dtype: torch.dtype | None) -> tuple[PreTrainedModel, bool]:
    """Load a model; also return True if the Hub did not answer and the model is that of the cache."""
    kind, cached = _read_config(name)
    if kind not in expected:
        raise ModelError(f"{name}: a model of type {kind!r}, expected {' or '.join(map(repr, expected))}")
    path = str(Path(name).expanduser()) if names_a_folder(name) else name
    try:
        with quiet_transformers():
            loaded: Any = AutoModel.from_pretrained(
                path,
                output_loading_info=True,
                local_files_only=cached,
                dtype="auto" if dtype is None else dtype,
            )
    # Sizes of other types in its configuration, and damaged weights, raise what torch and safetensors like.
    except (
        OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError, ZeroDivisionError, OverflowError,
        SafetensorError, StrictDataclassError,
    ) as error:  # fmt: skip
        raise ModelError(f"{name}: the model cannot be loaded ({_first_line(error)})") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        more = ", ..." if len(missing) > _NAMED else ""
        raise ModelError(
            f"{name}: not a whole {kind!r}, {len(missing)} of its weights are missing "
            f"({', '.join(missing[:_NAMED])}{more}); train it again, or copy all files of the model"
        )
    whole: PreTrainedModel = model.eval()
    return whole, cached


def _read_config(name: str) -> tuple[str, bool]:
    """Return the ``model_type``, and True if the Hub did not answer and the configuration is that of the cache."""
    if not name:
        raise ModelError("the name of the model is empty: expected a folder or a Hub id (user/name)")
    cached = False
    if names_a_folder(name):
        text = _local_config(name)
    else:
        text, cached = _remote_config(name)
    try:
        config = json.loads(text)
        kind = config.get("model_type")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{name}: its {_CONFIG} cannot be read ({_first_line(error)})") from None
    if not isinstance(kind, str):
        raise ModelError(f"{name}: its {_CONFIG} has no model_type, so it is not a model of transformers")
    for key, value in config.items():
        if key.startswith("num_") and isinstance(value, int | float) and value > _MAX_COUNT:
            raise ModelError(
                f"{name}: {one_line(key, 80)} in its {_CONFIG} is {shown(value)}, expected at most {_MAX_COUNT:,}; copy the file again"
            )
    return kind, cached


def _local_config(name: str) -> str:
    folder = Path(name).expanduser()
    if not folder.exists():
        hub = ", and no such repository on the Hub (those are named user/name)"
        raise ModelError(f"{name}: no such folder here{hub}")
    if not folder.is_dir():
        raise ModelError(f"{name}: a file, expected the folder of a model")
    if (folder / _CONFIG).is_file():
        try:
            return (folder / _CONFIG).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ModelError(
                f"{name}: its {_CONFIG} is not UTF-8 text; copy all files of the model again"
            ) from None
    if any(folder.glob("data/*/*.parquet")) or any(folder.glob("*.npz")):
        raise ModelError(f"{name}: a dataset, expected the folder of a model")
    raise ModelError(f"{name}: not a model, its folder has no {_CONFIG}")


def _remote_config(name: str) -> tuple[str, bool]:
    """Return the text of ``config.json``, and True if it comes from the cache; one request, without retries."""
    from huggingface_hub import (
        constants,
        get_session,
        hf_hub_url,
        hf_raise_for_status,
    )
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    try:
        kept = try_to_load_from_cache(name, _CONFIG)
    except HFValidationError:
        raise ModelError(f"{name}: no such folder here, and not a name of a Hub repository") from None
    if not constants.HF_HUB_OFFLINE:
        url = hf_hub_url(name, _CONFIG)
        try:
            answer = get_session().get(
                url, headers=build_hf_headers(), timeout=_TIMEOUT_S, follow_redirects=True
            )
            hf_raise_for_status(answer)
            return answer.text, False
        except GatedRepoError:
            raise ModelError(
                f"{name}: a gated repository: ask for access on its page, then set HF_TOKEN"
            ) from None
        except RepositoryNotFoundError:
            if _is_dataset(name):
                raise ModelError(f"{name}: a dataset on the Hub, expected a model") from None
            raise ModelError(
                f"{name}: no such folder here, and no such repository on the Hub (for a private one, set HF_TOKEN)"
            ) from None
        except EntryNotFoundError:
            raise ModelError(f"{name}: not a model, the repository on the Hub has no {_CONFIG}") from None
        except Exception as error:  # errors of the network and of HTTP have no common base class
            cause = f"the Hub does not answer ({_first_line(error)})"
    else:
        cause = "the Hub is not asked (HF_HUB_OFFLINE)"
    if isinstance(kept, str):
        return Path(kept).read_text(encoding="utf-8"), True
    raise ModelError(f"{name}: no such folder here, not in the cache, and {cause}")


def _is_dataset(name: str) -> bool:
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(name, "README.md", repo_type="dataset")
    try:
        answer = get_session().head(
            url, headers=build_hf_headers(), timeout=_TIMEOUT_S, follow_redirects=True
        )
    except Exception:  # errors of the network and of HTTP have no common base class
        return False
    return bool(answer.status_code == 200)


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
