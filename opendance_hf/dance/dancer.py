"""A trained model that dances to songs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from opendance_hf.errors import OpenDanceError
from opendance_hf.formats.motion import Motion
from opendance_hf.metrics import still_ratio
from opendance_hf.modeling import MODELS
from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor
from opendance_hf.modeling.loading import load_with_extractor
from opendance_hf.modeling.models import extractor_for
from opendance_hf.motion.generated import posed
from opendance_hf.music import Engine
from opendance_hf.schema import FPS

Song = str | os.PathLike[str] | Any
#: Parameters of a model for which one more CPU thread pays off: a step has few tokens. On two cores, 20 s of a dance by
#: 2.3 million parameters take 0.7 s with one thread and 0.6 s with two; on busy cores 0.4 s and 3.2 s.
_PARAMETERS_PER_THREAD: Final = 10_000_000
#: Arrays of a dance, and of the fields of a motion.
_FIELDS: Final = {"smpl_pose": "poses", "smpl_transl": "transl", "rest_offsets": "rest_offsets"}


#: A dance that stands still is danced again so often, with this added to the seed each time: the CPU's generator knows 32 bits.
_MORE_TAKES: Final = 3
_NEXT_TAKE: Final = 1_000_000_007
#: Frames; who stands still for a moment has not frozen.
_SHORTEST_TAKE: Final = 4 * FPS

log = logging.getLogger(__name__)


class DanceError(OpenDanceError, ValueError):
    """A model, a seed motion or an option that cannot be used; the message has the cause and the remedy."""


@dataclass
class Dancer:
    """Model, the feature extractor saved with it, and what turns its output into dances.

    The same song, model, seed and options give the same dance from every front door; it does not depend on the other songs
    of a call. Dances stand on the ground and have poses.

    Attributes:
        model: a model that dances (:data:`~opendance_hf.modeling.models.MODELS`), with its generation defaults.
        feature_extractor: of the model.

    >>> from opendance_hf.modeling.bailando import BailandoConfig, BailandoForDanceGeneration
    >>> tiny = {"codebook_size": 8, "hidden_size": 8}
    >>> layers = {"num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1}
    >>> dancer = Dancer.of(BailandoForDanceGeneration(BailandoConfig(tiny, {**tiny, **layers})).eval())
    >>> time = np.arange(2 * 30_720) / 30_720
    >>> (dance,) = dancer([{"array": np.sin(880 * np.pi * time), "sampling_rate": 30_720}], seed=1)
    >>> dance.joints.shape, dance.fps
    ((1, 120, 24, 3), 60.0)
    """

    model: PreTrainedModel
    feature_extractor: DanceFeatureExtractor

    @classmethod
    def of(cls, model: PreTrainedModel, engine: Engine | None = None) -> Dancer:
        """Make a dancer of a model, with a new feature extractor.

        Raises:
            DanceError: for a model that does not dance, or an unknown engine.
        """
        kind = model.config.model_type
        if kind not in dancing():
            raise DanceError(
                f"a model of type {kind!r} does not dance; those that do: {', '.join(dancing())}"
            )
        return cls(model, _with_engine(extractor_for(model.config), engine))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        engine: Engine | None = None,
        dtype: torch.dtype | None = None,
    ) -> Dancer:
        """Load a model with its feature extractor and generation defaults.

        Args:
            name: folder, or Hub id (``user/name``).
            device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` or another device of torch.
            engine: of the music features (:mod:`opendance_hf.music.features`); by default that of the saved extractor.
            dtype: of the weights; by default as saved.

        Raises:
            ModelError: if the model does not exist or does not dance, or a part of its weights is missing.
            DanceError: for an unknown engine or device.
        """
        place = torch_device(device)
        model, extractor = load_with_extractor(os.fspath(name), expected=dancing(), dtype=dtype)
        return cls(model.to(place), _with_engine(extractor, engine))  # type: ignore[arg-type]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model and its feature extractor into one folder."""
        self.model.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)

    def __call__(
        self,
        songs: Iterable[Song] | Song,
        *,
        seed: int = 0,
        seed_motions: Sequence[Motion] | None = None,
        music_beats: Sequence[npt.ArrayLike | None] | None = None,
        batch_size: int = 1,
        **options: Any,
    ) -> list[Motion]:
        """Dance to songs.

        Args:
            songs: audio or video files, or sound as ``datasets`` decodes it: ``song["array"]`` (samples,) and
                ``song["sampling_rate"]`` in Hz.
            seed: of all draws.
            seed_motions: what the dances start from: one for each song, or one for all.
            music_beats: for each song frames (beats,) at 60 FPS, which may be fractions, where they are known better than
                the tracker's; None for the tracker's.
            batch_size: songs at a time.
            options: changes of the generation defaults, such as ``do_sample``, ``temperature``, ``top_k`` or ``top_p``;
                ``num_dancers`` for Bailando++, ``max_still`` (:meth:`dance`).

        Returns:
            A motion for each song, as long as the song, at 60 FPS. Its ``meta`` has ``id``, ``music_beats`` (frames), ``bpm``,
            ``seed`` and ``ground`` (0).

        Raises:
            FileNotFoundError, AudioError: for a song that cannot be read.
            DanceError: for an unknown option, or a seed motion that does not fit.
        """
        return list(
            self.iterate(
                songs,
                seed=seed,
                seed_motions=seed_motions,
                music_beats=music_beats,
                batch_size=batch_size,
                **options,
            )
        )

    def iterate(
        self,
        songs: Iterable[Song] | Song,
        *,
        seed: int = 0,
        seed_motions: Sequence[Motion] | None = None,
        music_beats: Sequence[npt.ArrayLike | None] | None = None,
        batch_size: int = 1,
        **options: Any,
    ) -> Iterator[Motion]:
        """Yield the dances of :meth:`__call__`, a batch at a time."""
        songs = _listed(songs)
        motions = _for_each(seed_motions, len(songs))
        beats = music_beats or [None] * len(songs)
        if len(beats) != len(songs):
            raise DanceError(f"beats of {len(beats)} songs for {len(songs)} songs")
        for first in range(0, len(songs), max(1, batch_size)):
            chosen = songs[first : first + max(1, batch_size)]
            known = beats[first : first + len(chosen)]
            parts = [
                extract(self.feature_extractor, song, times)
                for song, times in zip(chosen, known, strict=True)
            ]
            # Hours of features do not stay in memory.
            features = [part.pop("music_features")[0] for part in parts]
            frames = [int(part["num_frames"][0]) for part in parts]
            some = motions[first : first + len(chosen)] if motions else None
            dances = self.dance(features, frames, seed=seed, seed_motions=some, **options)
            del features
            for song, part, dance in zip(chosen, parts, dances, strict=True):
                yield _motion(dance, _name(song), part, seed)

    def dance(
        self,
        music_features: Sequence[Tensor | npt.NDArray[np.floating]],
        num_frames: Sequence[int],
        *,
        seed: int = 0,
        seed_motions: Sequence[Motion] | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Dance to music features that are already extracted, such as those of a dataset's rows.

        With ``max_still`` among the generation defaults or the options, a dance of which a dancer stands still for a larger
        share (:func:`~opendance_hf.metrics.still_ratio`) is danced again with other draws, three times at most; the liveliest
        is kept.

        Args:
            music_features: (rows, features) of each piece, see ``feature_extractor.select``.
            num_frames: length of each dance at 60 FPS.
            seed: of all draws; each piece has its own generator with it.
            seed_motions: see :meth:`__call__`.
            options: see :meth:`__call__`.

        Returns:
            The dances, see :meth:`DanceFeatureExtractor.post_process_dance`.

        Raises:
            DanceError: for an unknown option, or a seed motion that does not fit.
        """
        default = getattr(self.model.generation_config, "max_still", None)
        most = options.pop("max_still", default)
        if most is not None and not 0 <= most <= 1:
            raise DanceError(f"max_still must be a share from 0 to 1, got {most!r}")
        motions = _for_each(seed_motions, len(music_features))
        dances = self._take(music_features, num_frames, seed, motions, options)
        # Without draws, another take is the same dance.
        drawn = options.get("do_sample", self.model.generation_config.do_sample) or not motions
        if most is None or not drawn:
            return dances
        for number, (features, frames) in enumerate(zip(music_features, num_frames, strict=True)):
            motion = motions[number : number + 1]
            for take in range(1, _MORE_TAKES + 1):
                if frames < _SHORTEST_TAKE or (still := _still(dances[number])) <= most:
                    break
                log.info(
                    "a dance stands still for %.0f%% of its time: another take is tried, and the livelier one kept",
                    100 * still,
                )
                other = self._take([features], [frames], seed + take * _NEXT_TAKE, motion, options)[0]
                if _still(other) < still:
                    dances[number] = other
        return dances

    @torch.no_grad()
    def _take(
        self,
        music_features: Sequence[Tensor | npt.NDArray[np.floating]],
        num_frames: Sequence[int],
        seed: int,
        motions: Sequence[Motion],
        options: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Return the dances of one seed, see :meth:`dance`."""
        output = self._generate(music_features, num_frames, seed, motions, options)
        return self.feature_extractor.post_process_dance(output, list(num_frames), overwrite=True)

    def _generate(
        self,
        music_features: Sequence[Tensor | npt.NDArray[np.floating]],
        num_frames: Sequence[int],
        seed: int,
        motions: Sequence[Motion],
        options: Mapping[str, Any],
    ) -> Any:
        """Return the output of the model, see :meth:`dance`."""
        model: Any = self.model
        pieces = [np.asarray(one, dtype=np.float32) for one in music_features]
        longest, mode = max(len(piece) for piece in pieces), model.music_padding
        if len(pieces) == 1:
            features = torch.from_numpy(pieces[0])[None]
        else:
            padded = [np.pad(piece, ((0, longest - len(piece)), (0, 0)), mode=mode) for piece in pieces]
            features = torch.from_numpy(np.stack(padded))
        start = model.seed_inputs(self._seed(motions)) if motions else {}
        try:
            with _evaluating(model), _few_threads(model):
                return model.generate_dance(
                    features.to(model.device),
                    list(num_frames),
                    generator=[torch.Generator().manual_seed(seed) for _ in features],
                    **start,
                    **options,
                )
        except ValueError as error:
            raise DanceError(str(error)) from None

    def _seed(self, motions: Sequence[Motion]) -> dict[str, Tensor]:
        """Return joints, poses, transl and rest_offsets (B, N, ...) of the frames that the model starts from.

        Raises:
            DanceError: for a motion that is too short, at another rate, or of another number of dancers than the first.
        """
        model: Any = self.model
        count, fields = model.seed_frames, ("joints", "poses", "transl")
        arrays: dict[str, list[npt.NDArray[np.floating]]] = {name: [] for name in (*fields, "rest_offsets")}
        for motion in motions:
            if motion.fps != FPS or motion.num_frames < count:
                raise DanceError(
                    f"the seed motion has {motion.num_frames} frames at {motion.fps:g} FPS: "
                    f"expected at least {count} at {FPS}"
                )
            if motion.num_dancers != motions[0].num_dancers:
                raise DanceError("seed motions of one batch must have the same number of dancers")
            given = motion.poses, motion.transl, motion.rest_offsets
            values = posed(motion.joints) if any(value is None for value in given) else given
            for name, value in zip(arrays, (motion.joints, *values), strict=True):
                assert value is not None
                arrays[name].append(value[:, :count] if name in fields else value)
        return {
            name: torch.from_numpy(np.stack(values).astype(np.float32)).to(model.device)
            for name, values in arrays.items()
        }


def dancing() -> tuple[str, ...]:
    """Return the types of models that dance."""
    return tuple(kind for kind, entry in MODELS.items() if entry.dances)


def torch_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU if there is one.

    Raises:
        DanceError: for an unknown name, or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DanceError(
            f"device {str(name)!r} cannot be used ({str(error).splitlines()[0]}): expected auto, cpu, cuda or cuda:N"
        ) from None
    return device


def extract(feature_extractor: Any, song: Any, music_beats: npt.ArrayLike | None = None) -> Any:
    """Extract the music features of a song, see :meth:`Dancer.__call__`.

    Raises:
        FileNotFoundError, AudioError: for a file that cannot be read.
        DanceError: for sound that is not mono or not finite.
    """
    try:
        if isinstance(song, str | os.PathLike):
            return feature_extractor(song, music_beats=[music_beats])
        return feature_extractor(np.asarray(song["array"]), song["sampling_rate"], music_beats=[music_beats])
    except OpenDanceError:
        raise
    except ValueError as error:
        raise DanceError(str(error)) from None


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put a model in evaluation mode for a while: with dropout, a seed would give another dance every time."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _few_threads(model: PreTrainedModel) -> Iterator[None]:
    """Run a small model on few CPU threads, unless the user set their number with ``OMP_NUM_THREADS``.

    The number depends on the size of the model alone: more threads change the last digits of a dance.
    """
    threads = torch.get_num_threads()
    if model.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(threads, 1 + model.num_parameters() // _PARAMETERS_PER_THREAD))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _with_engine(extractor: Any, engine: Engine | None) -> Any:
    if engine is not None:
        if engine not in get_args(Engine):
            raise DanceError(f"unknown engine {engine!r}: expected one of {', '.join(get_args(Engine))}")
        extractor.engine = engine
    return extractor


def _listed(songs: Any) -> list[Song]:
    """Return a list of songs, of one song or of several."""
    if isinstance(songs, str | os.PathLike | Mapping) or not isinstance(songs, Iterable):
        return [songs]
    return list(songs)


def _for_each(motions: Sequence[Motion] | None, count: int) -> list[Motion]:
    """Return one seed motion for each of ``count`` pieces, or none."""
    if not motions:
        return []
    if len(motions) not in (1, count):
        raise DanceError(f"{len(motions)} seed motions for {count} songs: expected one, or one for each")
    return list(motions) * (count if len(motions) == 1 else 1)


def _still(dance: Mapping[str, Any]) -> float:
    """Return the share of the time that the dancer of a dance who moves least stands still."""
    joints = dance["joints"]
    return max(still_ratio(dancer, fps=dance["fps"]) for dancer in joints.reshape(-1, *joints.shape[-3:]))


def _name(song: Song) -> str:
    return Path(song).stem if isinstance(song, str | os.PathLike) else "dance"


def _motion(dance: dict[str, Any], name: str, features: Any, seed: int) -> Motion:
    solo = dance["joints"].ndim == 3
    arrays = {key: value[None] if solo else value for key, value in dance.items() if key != "fps"}
    return Motion(
        arrays["joints"],
        float(dance["fps"]),
        **{field: arrays[key] for key, field in _FIELDS.items()},
        meta={
            "id": name,
            "ground": 0.0,
            "music_beats": tuple(features["music_beats"][0].tolist()),
            "bpm": float(features["bpm"][0]),
            "seed": seed,
        },
    )
