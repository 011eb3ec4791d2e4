"""CLIFF: SMPL pose, shape and camera of one person from a crop and the place of that crop in the picture.

Li et al., "CLIFF: Carrying Location Information in Full Frames into Human Pose and Shape Estimation", ECCV 2022; the
pose estimator of paper section 3.1. Notable:

- a person at the picture's edge is seen along a slanted ray. The crop alone cannot tell; three numbers of its place
  and size (``bbox_info``) can, so the root rotation holds for the camera of the whole picture;
- the regressor starts from the mean body and corrects pose, shape and camera three times, always seeing the same
  image features;
- rotations are regressed as six numbers, two columns of the matrix, and made orthogonal at the very end;
- the backbone is a ResNet-50 or an HRNet-W48 in its classification form, both written out here.

Module names are those of the official checkpoints (``res50`` and ``hr48``), so their state dicts load as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.cliff.configuration_cliff import CLIFFConfig
from opendance_hf.modeling.pretrained import DancePreTrainedModel
from opendance_hf.motion.skeleton import NUM_JOINTS

NUM_BETAS = 10
_SIX = NUM_JOINTS * 6
#: A bottleneck's output is this many times its inner width.
_EXPANSION = 4


@dataclass
class CLIFFModelOutput(ModelOutput):
    """Output of :class:`CLIFFModel` for B crops.

    Attributes:
        rotations: (B, 24, 3, 3) each joint relative to its parent, the root to the camera (x right, y down, z away).
        betas: (B, 10) SMPL shape.
        camera: (B, 3) scale and translation (s, tx, ty) of a weak camera looking at the crop.
        features: (B, F) what the backbone saw.
    """

    rotations: Tensor | None = None
    betas: Tensor | None = None
    camera: Tensor | None = None
    features: Tensor | None = None


def six_to_rotations(six: Tensor) -> Tensor:
    """Convert (..., 6) row-major (3, 2) columns to (..., 3, 3) rotations by Gram-Schmidt (Zhou et al. 2019)."""
    first, second = six.unflatten(-1, (3, 2)).unbind(-1)
    first = F.normalize(first, dim=-1)
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _conv_norm(inputs: int, outputs: int, size: int = 3, stride: int = 1, *, relu: bool) -> nn.Sequential:
    parts: list[nn.Module] = [_conv(inputs, outputs, size, stride), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, nn.ReLU()) if relu else nn.Sequential(*parts)


class CLIFFBottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution beside a shortcut: (B, I, H, W) to (B, 4 * width, H', W')."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        self.downsample = _conv_norm(inputs, outputs, 1, stride, relu=False) if changes else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform feature maps."""
        out = F.relu(self.bn1(self.conv1(hidden)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(hidden))


class CLIFFBasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, C, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(width, width), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width), nn.BatchNorm2d(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform feature maps."""
        out = F.relu(self.bn1(self.conv1(hidden)))
        return F.relu(self.bn2(self.conv2(out)) + hidden)


def _bottlenecks(inputs: int, width: int, count: int, stride: int = 1) -> nn.Sequential:
    later = [CLIFFBottleneck(width * _EXPANSION, width) for _ in range(count - 1)]
    return nn.Sequential(CLIFFBottleneck(inputs, width, stride), *later)


class CLIFFResNet(nn.Module):
    """ResNet-50: (B, 3, H, W) to (B, 32 * width)."""

    def __init__(self, config: CLIFFConfig) -> None:
        super().__init__()
        width = config.width
        self.conv1, self.bn1 = _conv(3, width, 7, 2), nn.BatchNorm2d(width)
        self.layer1 = _bottlenecks(width, width, 3)
        self.layer2 = _bottlenecks(4 * width, 2 * width, 4, 2)
        self.layer3 = _bottlenecks(8 * width, 4 * width, 6, 2)
        self.layer4 = _bottlenecks(16 * width, 8 * width, 3, 2)
        self.features = 32 * width

    def forward(self, images: Tensor) -> Tensor:
        """Transform feature maps."""
        hidden = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        return hidden.mean(dim=(2, 3))


class CLIFFHRModule(nn.Module):
    """Branches of falling resolution side by side, then every one summed with all others brought to its size."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(CLIFFBasicBlock(w) for _ in range(4))) for w in widths)
        # Keyed by branch number: a branch is added to itself as it is, and has no layer there.
        self.fuse_layers = nn.ModuleList(
            nn.ModuleDict({str(j): _resize(widths, j, i) for j in range(len(widths)) if j != i})
            for i in range(len(widths))
        )

    def forward(self, hidden: list[Tensor]) -> list[Tensor]:
        """List of (B, C_i, H / 2^i, W / 2^i) to the same."""
        hidden = [branch(x) for branch, x in zip(self.branches, hidden, strict=True)]
        out = []
        for i, here in enumerate(hidden):
            total = torch.zeros_like(here)
            for j, x in enumerate(hidden):
                if j == i:
                    total = total + x
                    continue
                x = self.fuse_layers[i][str(j)](x)  # type: ignore[index]
                total = total + (F.interpolate(x, scale_factor=2 ** (j - i), mode="nearest") if j > i else x)
            out.append(F.relu(total))
        return out


def _resize(widths: list[int], source: int, target: int) -> nn.Sequential:
    """Layers from a branch to another's width, and to its size if that is smaller."""
    if source > target:
        return _conv_norm(widths[source], widths[target], 1, relu=False)
    steps = [_conv_norm(widths[source], widths[source], 3, 2, relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _conv_norm(widths[source], widths[target], 3, 2, relu=False))


class CLIFFHRNet(nn.Module):
    """HRNet with a classification head: (B, 3, H, W) to (B, 2048)."""

    def __init__(self, config: CLIFFConfig) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in range(4)]
        self.conv1, self.bn1 = _conv(3, 64, 3, 2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = _conv(64, 64, 3, 2), nn.BatchNorm2d(64)
        self.layer1 = _bottlenecks(64, 64, 4)
        self.transition1 = nn.ModuleDict(
            {
                "0": _conv_norm(256, widths[0], relu=True),
                "1": nn.Sequential(_conv_norm(256, widths[1], 3, 2, relu=True)),
            }
        )
        self.stage2 = nn.Sequential(CLIFFHRModule(widths[:2]))
        self.transition2 = nn.ModuleDict(
            {"2": nn.Sequential(_conv_norm(widths[1], widths[2], 3, 2, relu=True))}
        )
        self.stage3 = nn.Sequential(*(CLIFFHRModule(widths[:3]) for _ in range(4)))
        self.transition3 = nn.ModuleDict(
            {"3": nn.Sequential(_conv_norm(widths[2], widths[3], 3, 2, relu=True))}
        )
        self.stage4 = nn.Sequential(*(CLIFFHRModule(widths) for _ in range(3)))

        heads = [32 * 2**i for i in range(4)]
        self.incre_modules = nn.ModuleList(
            _bottlenecks(w, head, 1) for w, head in zip(widths, heads, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(nn.Conv2d(head * 4, head * 8, 3, 2, padding=1), nn.BatchNorm2d(head * 8), nn.ReLU())
            for head in heads[:3]
        )
        self.features = 2048
        self.final_layer = nn.Sequential(
            nn.Conv2d(heads[3] * 4, self.features, 1), nn.BatchNorm2d(self.features), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Transform feature maps."""
        hidden = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(images))))))
        hidden = self.layer1(hidden)
        branches = self.stage2([self.transition1["0"](hidden), self.transition1["1"](hidden)])
        branches = self.stage3([*branches, self.transition2["2"](branches[-1])])
        branches = self.stage4([*branches, self.transition3["3"](branches[-1])])
        out = self.incre_modules[0](branches[0])
        for incre, down, branch in zip(
            self.incre_modules[1:], self.downsamp_modules, branches[1:], strict=True
        ):
            out = incre(branch) + down(out)
        return self.final_layer(out).mean(dim=(2, 3))


#: Pose (rest pose as columns of matrices), shape and camera that the regressor starts from without a checkpoint's own.
_REST_POSE = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0) * NUM_JOINTS
_CAMERA = (0.9, 0.0, 0.0)


class CLIFFPreTrainedModel(DancePreTrainedModel):
    """Base of CLIFF: the initialisation of all its modules."""

    config_class = CLIFFConfig
    base_model_prefix = "cliff"
    main_input_name = "images"
    _no_split_modules = ["CLIFFBottleneck", "CLIFFBasicBlock"]  # noqa: RUF012
    # Recomputing a block would update its batch norms twice.
    supports_gradient_checkpointing = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            # Small corrections of the mean body to begin with.
            init.xavier_uniform_(
                module.weight, gain=1.0 if module.out_features == self.config.hidden_size else 0.001
            )
            init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            super()._init_weights(module)
        elif isinstance(module, CLIFFModel):
            init.copy_(module.init_pose, torch.tensor([_REST_POSE]))
            init.zeros_(module.init_shape)
            init.copy_(module.init_cam, torch.tensor([_CAMERA]))


class CLIFFModel(CLIFFPreTrainedModel):
    """Backbone and regressor of CLIFF, for the official weights. This project does not train it.

    >>> model = CLIFFModel(CLIFFConfig(width=4, hidden_size=8)).eval()
    >>> model(torch.zeros(2, 3, 256, 192), torch.zeros(2, 3)).rotations.shape
    torch.Size([2, 24, 3, 3])
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, config: CLIFFConfig) -> None:
        super().__init__(config)
        self.encoder = CLIFFResNet(config) if config.backbone == "res50" else CLIFFHRNet(config)
        width = config.hidden_size
        self.fc1 = nn.Linear(self.encoder.features + 3 + _SIX + NUM_BETAS + 3, width)
        self.fc2 = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.decpose = nn.Linear(width, _SIX)
        self.decshape = nn.Linear(width, NUM_BETAS)
        self.deccam = nn.Linear(width, 3)
        # The mean body of the training data; checkpoints bring it. Until then: rest pose, mean shape.
        self.register_buffer("init_pose", torch.tensor([_REST_POSE]))
        self.register_buffer("init_shape", torch.zeros(1, NUM_BETAS))
        self.register_buffer("init_cam", torch.tensor([_CAMERA]))
        self.post_init()

    def forward(self, images: Tensor, bbox_info: Tensor) -> CLIFFModelOutput:
        """Estimate the bodies of people in crops.

        Args:
            images: (B, 3, 256, 192) normalised RGB crops.
            bbox_info: (B, 3) normalised centre and size of each crop; both as
                :class:`~opendance_hf.modeling.cliff.CLIFFFeatureExtractor` returns them.

        Raises:
            ValueError: if the shapes do not fit.
        """
        count = len(images)
        if images.ndim != 4 or images.shape[1] != 3 or bbox_info.shape != (count, 3):
            raise ValueError(
                f"images {tuple(images.shape)} must be (B, 3, H, W) and bbox_info {tuple(bbox_info.shape)} (B, 3)"
            )
        images, bbox_info = (value.to(self.fc1.weight.dtype) for value in (images, bbox_info))
        features = self.encoder(images)
        pose, shape, camera = (
            start.expand(count, -1) for start in (self.init_pose, self.init_shape, self.init_cam)
        )
        for _ in range(self.config.num_iterations):
            hidden = torch.cat([features, bbox_info, pose, shape, camera], dim=1)
            hidden = self.dropout(self.fc2(self.dropout(self.fc1(hidden))))
            pose = pose + self.decpose(hidden)
            shape = shape + self.decshape(hidden)
            camera = camera + self.deccam(hidden)
        return CLIFFModelOutput(six_to_rotations(pose.unflatten(1, (NUM_JOINTS, 6))), shape, camera, features)
