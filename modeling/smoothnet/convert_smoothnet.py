"""Official SmoothNet checkpoints, the authors' and MMHuman3D's, as folders that ``from_pretrained`` loads.

opendance convert smoothnet smoothnet_windowsize32.pth.tar --out smoothnet-32
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from torch import Tensor

from opendance_hf.modeling.bailando.convert_bailando import (
    ConversionError,
    ConversionReport,
    check_folder,
    load_official,
    weights_of,
)
from opendance_hf.modeling.cliff.convert_cliff import save_converted
from opendance_hf.modeling.smoothnet.configuration_smoothnet import SmoothNetConfig
from opendance_hf.modeling.smoothnet.modeling_smoothnet import SmoothNetModel


def smoothnet_config_of(state: Mapping[str, Tensor]) -> SmoothNetConfig:
    """Infer the configuration of official weights.

    Raises:
        ConversionError: if they are not a SmoothNet's.
    """
    try:
        hidden, window = state["encoder.0.weight"].shape
        blocks = {m[1] for key in state if (m := re.match(r"res_blocks\.(\d+)\.", key))}
        return SmoothNetConfig(
            window_size=window,
            output_size=len(state["decoder.weight"]),
            hidden_size=hidden,
            res_hidden_size=len(state["res_blocks.0.linear1.weight"]),
            num_blocks=len(blocks),
        )
    except KeyError as error:
        raise ConversionError(f"no SmoothNet: there is no weight {error}") from None
    except (TypeError, ValueError) as error:
        raise ConversionError(f"no SmoothNet that smooths: {error}") from None


def convert_smoothnet(
    checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]
) -> tuple[SmoothNetModel, ConversionReport]:
    """Convert an official checkpoint of any size to a saved :class:`SmoothNetModel`.

    Returns:
        The model, and the keys that found no place.

    Raises:
        ConversionError: if the file cannot be read, is not a SmoothNet or misses weights, or ``out`` is a file.
    """
    check_folder(out)
    try:
        weights = weights_of(load_official(checkpoint))
        state = {re.sub(r"^(module\.|smoothnet\.)+", "", key): value for key, value in weights.items()}
        model = SmoothNetModel(smoothnet_config_of(state))
        return model, save_converted(model, state, out)
    except ConversionError as error:
        raise ConversionError(
            str(error) if str(checkpoint) in str(error) else f"{checkpoint}: {error}"
        ) from None
