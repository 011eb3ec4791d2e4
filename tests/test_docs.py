"""The documents keep in step with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import soundfile
import typer
from typer.testing import CliRunner

from opendance_hf.assets import ASSETS, AssetError, asset_files
from opendance_hf.cli import app
from opendance_hf.dance import Dancer
from opendance_hf.metrics import MEASURES, PROTOCOLS
from opendance_hf.modeling.bailando import BailandoConfig, BailandoForDanceGeneration
from opendance_hf.motion.skeleton import JOINT_NAMES
from opendance_hf.music import SAMPLE_RATE_60FPS
from opendance_hf.schema import SCHEMA_VERSION, markdown_tables
from opendance_hf.storage import pack
from tests.factories import make_sequence
from tests.fixtures.make_music_synth import synth_music
from tests.pipeline.media import write_clip

DOCUMENTS = tuple(
    f"{name}.md"
    for name in (
        "README",
        "docs/pipeline",
        "docs/python",
        "docs/inspection",
        "docs/backends",
        "docs/dataset",
        "docs/hub",
        "docs/training",
        "docs/metrics",
        "docs/music",
        "docs/performance",
        "docs/view",
    )
)


def test_every_column_is_documented(repo: Path) -> None:
    text = (repo / "docs/dataset.md").read_text(encoding="utf-8")
    for name, table in markdown_tables().items():
        assert table in text, f"docs/dataset.md, {name}: paste what `python -m opendance_hf.schema` prints"
    assert f"schema version {SCHEMA_VERSION}" in text
    assert ", ".join(JOINT_NAMES) in " ".join(text.split())


def test_every_command_of_the_documents_exists(repo: Path) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for document in DOCUMENTS:
        text = (repo / document).read_text(encoding="utf-8")
        for name in re.findall(r"(?:^|`)opendance ([a-z]\S*)", text, flags=re.MULTILINE):
            assert name.rstrip("`") in group.commands, f"{document}: opendance {name}"


def test_every_option_of_the_readme_exists(repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    options = set(re.findall(r"(--[a-z][a-z-]+)", text))
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    known = {name for command in group.commands.values() for option in command.params for name in option.opts}
    assert options <= known | {"--help"}
    assert {"--allow-empty", "--strict", "--out"} <= options
    assert CliRunner().invoke(app, ["build", "--help"]).exit_code == 0


def test_every_target_of_the_readme_exists(repo: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repo / "Makefile").read_text(), flags=re.MULTILINE))
    used = set(re.findall(r"^make ([a-z-]+)", (repo / "README.md").read_text(), flags=re.MULTILINE))
    assert used == {"demo", "test"}
    assert used <= targets


def test_the_readme_names_the_pinned_weights(repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    for asset in ASSETS.values():
        assert f"`{asset.package}` {asset.version}" in text


def test_every_score_is_documented(repo: Path) -> None:
    text = (repo / "docs/metrics.md").read_text(encoding="utf-8")
    table = {
        name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)
    }
    assert set(MEASURES) <= table
    for name in PROTOCOLS:
        assert f"`{name}`" in text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(repo: Path, document: str) -> None:
    path = repo / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize(
    ("document", "count"), [("README.md", 5), ("docs/metrics.md", 1), ("docs/python.md", 8)]
)
def test_the_examples_run(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str, count: int
) -> None:
    text = (repo / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == count
    if any("build_dataset" in block for block in blocks):
        try:
            for name in ("nanodet", "blazepose"):
                asset_files(name)
        except AssetError as error:
            pytest.skip(str(error))
    make_files_of_the_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, document, "exec"), {"__name__": "__main__"})


def make_files_of_the_examples(folder: Path) -> None:
    """A packed dataset, a tiny Bailando, a song and a folder of videos in which nobody dances."""
    pack([make_sequence(0), make_sequence(1, num_dancers=2)], folder / "opendance-3d")
    tiny = {"codebook_size": 8, "hidden_size": 16}
    gpt = tiny | {"num_base_layers": 1, "num_head_layers": 1, "num_attention_heads": 2}
    Dancer.of(BailandoForDanceGeneration(BailandoConfig(tiny, gpt))).save_pretrained(
        folder / "runs" / "bailando"
    )
    sound = synth_music(SAMPLE_RATE_60FPS)
    soundfile.write(folder / "song.mp3", sound, SAMPLE_RATE_60FPS, format="WAV", subtype="FLOAT")
    (folder / "videos").mkdir()
    write_clip(folder / "videos" / "silent.mp4", sound=False)
