"""Official CLIFF checkpoints as folders that ``from_pretrained`` loads.

opendance convert cliff hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt --out cliff-hr48
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from opendance_hf.modeling.bailando.convert_bailando import (
    ConversionError,
    ConversionReport,
    check_folder,
    load_official,
    weights_of,
)
from opendance_hf.modeling.cliff.configuration_cliff import CLIFFConfig
from opendance_hf.modeling.cliff.feature_extraction_cliff import CLIFFFeatureExtractor
from opendance_hf.modeling.cliff.modeling_cliff import CLIFFModel


def cliff_config_of(state: Mapping[str, Tensor]) -> CLIFFConfig:
    """Infer the configuration of official weights.

    Raises:
        ConversionError: if they are not a CLIFF's.
    """
    try:
        hidden = len(state["fc1.weight"])
        if "encoder.transition1.0.0.weight" in state:
            return CLIFFConfig("hr48", len(state["encoder.transition1.0.0.weight"]), hidden)
        return CLIFFConfig("res50", len(state["encoder.conv1.weight"]), hidden)
    except KeyError as error:
        raise ConversionError(f"no CLIFF: there is no weight {error}") from None
    except (TypeError, ValueError) as error:
        raise ConversionError(f"no CLIFF: a weight has a shape that none has ({error})") from None


def convert_cliff(
    checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]
) -> tuple[CLIFFModel, ConversionReport]:
    """Convert an official checkpoint (``res50`` or ``hr48``) to a saved :class:`CLIFFModel` with its feature extractor.

    Returns:
        The model, and the keys that found no place (``unmatched``) and weights that nothing filled (``missing``).

    Raises:
        ConversionError: if the file cannot be read, is not a CLIFF or misses weights, or ``out`` is a file.
    """
    check_folder(out)
    try:
        state = {k.removeprefix("module."): v for k, v in weights_of(load_official(checkpoint)).items()}
        model = CLIFFModel(cliff_config_of(state))
        report = save_converted(model, state, out)
        CLIFFFeatureExtractor().save_pretrained(out)
        return model, report
    except ConversionError as error:
        raise ConversionError(
            str(error) if str(checkpoint) in str(error) else f"{checkpoint}: {error}"
        ) from None


def save_converted(
    model: torch.nn.Module, state: Mapping[str, Tensor], out: str | os.PathLike[str]
) -> ConversionReport:
    """Load weights under our names and save the model; a model with holes is not saved.

    Raises:
        ConversionError: if a weight has another shape, or is missing.
    """
    try:
        missing, unmatched = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise ConversionError(str(error).splitlines()[-1].strip()) from None
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise ConversionError(f"misses {len(missing)} weights, {missing[0]} first")
    model.eval().save_pretrained(out)  # type: ignore[operator]
    return ConversionReport(unmatched=list(unmatched), dropped=[], missing=[])
