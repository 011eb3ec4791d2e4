"""Real clients push to and load from a hub on loopback."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from opendance_hf.apps.app_space import write_space
from opendance_hf.assets import packaged_weights
from opendance_hf.hub import HubError, push
from opendance_hf.model_card import (
    DatasetFacts,
    ModelFacts,
    describe_dataset,
    model_card,
    model_card_for_hub,
)
from opendance_hf.modeling.models import MODELS, resolve
from opendance_hf.storage import pack
from opendance_hf.storage.contents import ContentError
from tests.factories import make_sequence
from tests.fakehub import FakeHub


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running


@pytest.fixture
def client(hub: FakeHub, tmp_path: Path) -> Callable[[str], str]:
    """Runs a Python program in a process whose Hub is the fake one; returns what it printed."""

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=hub.env(tmp_path / "home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def test_a_pushed_dataset_loads_by_its_name(
    client: Callable[[str], str], tmp_path: Path, hub: FakeHub
) -> None:
    pack(
        [*(make_sequence(i) for i in range(6)), *(make_sequence(9, count) for count in (2, 3))],
        tmp_path / "opendance-3d",
    )
    (tmp_path / "opendance-3d/.gitattributes").write_text("")
    local = (tmp_path / "opendance-3d/README.md").read_bytes()
    said = client(
        """
from opendance_hf.hub import push
print(push("opendance-3d", "org/opendance-3d", version="1.0.0").url)
"""
    )
    assert "org/opendance-3d" in said
    assert (tmp_path / "opendance-3d/README.md").read_bytes() == local
    files = hub.repos["dataset", "org/opendance-3d"].commits[
        hub.repos["dataset", "org/opendance-3d"].refs["main"]
    ]
    on_disk = (p.relative_to(tmp_path / "opendance-3d") for p in (tmp_path / "opendance-3d").rglob("*.*"))
    assert set(files) == {path.as_posix() for path in on_disk} - {".gitattributes"}
    card = files["README.md"].decode()
    assert "\n# org/opendance-3d\n" in card
    assert set(re.findall(r'load_dataset\("([^"]+)"', card)) == {"org/opendance-3d"}
    # The viewer shows the files of the configurations alone, so each row once, and not the tars.
    patterns = [one["path"] for config in DatasetCard(card).data.configs for one in config["data_files"]]
    assert all(re.fullmatch(r"data/\w+/\w+-\*\.parquet", pattern) for pattern in patterns)
    assert any(name.startswith("webdataset/") for name in files)
    said = client(
        """
import numpy as np
from datasets import load_dataset
local, pushed = (load_dataset(name, "individual") for name in ("opendance-3d", "org/opendance-3d"))
assert {k: len(v) for k, v in local.items()} == {k: len(v) for k, v in pushed.items()}
for split in local:
    assert local[split].features == pushed[split].features
    for a, b in zip(local[split].with_format("numpy"), pushed[split].with_format("numpy")):
        assert a["id"] == b["id"] and np.array_equal(a["joints"], b["joints"])
print(sorted(r["id"] for s in pushed.values() for r in s))
tagged = load_dataset("org/opendance-3d", "individual", revision="v1.0.0")
assert {k: len(v) for k, v in tagged.items()} == {k: len(v) for k, v in local.items()}
streamed = load_dataset("org/opendance-3d", "individual", streaming=True)
print(sorted(r["id"] for s in streamed.values() for r in s))
for name in "collaborative", "group_3":
    print(load_dataset("org/opendance-3d", name, split="train")[0]["num_dancers"])
import re
from huggingface_hub import DatasetCard
blocks = re.findall(r"```python\\n(.*?)```", DatasetCard.load("org/opendance-3d").text, flags=re.DOTALL)
assert len(blocks) == 3
for block in blocks:
    exec(block, {})
"""
    ).splitlines()
    assert said[0] == said[1] == str(sorted(make_sequence(i).id for i in range(6)))
    assert said[2:] == ["2", "3"]


def test_the_card_of_a_pushed_model_names_the_repository(
    client: Callable[[str], str], tmp_path: Path, hub: FakeHub
) -> None:
    shutil.copytree(packaged_weights("bailando-vqvae-cmu"), tmp_path / "coder")
    local = (tmp_path / "coder/README.md").read_text()
    (tmp_path / "coder/samples").mkdir()
    (tmp_path / "coder/samples/dance.mp4").write_bytes(b"a film stays at home")
    client(
        """
from opendance_hf.hub import push
from opendance_hf.modeling.bailando import BailandoVQVAE
push("coder", "org/dancer")
BailandoVQVAE.from_pretrained("org/dancer")
"""
    )
    pushed = hub.repos["model", "org/dancer"]
    files = pushed.commits[pushed.refs["main"]]
    assert set(files) == {"README.md", "config.json", "model.safetensors", "recipe.yaml"}
    card = files["README.md"].decode()
    assert "\n# org/dancer\n" in card
    assert re.findall(r'from_pretrained\("([^"]+)"', card) == ["org/dancer"]
    assert card.startswith("---\nlicense: other\n")
    assert (tmp_path / "coder/README.md").read_text() == local


def test_a_space_is_pushed_with_what_it_runs(
    client: Callable[[str], str], tmp_path: Path, hub: FakeHub
) -> None:
    write_space(tmp_path / "app")
    (wheel,) = (tmp_path / "app").glob("*.whl")
    said = client('from opendance_hf.hub import push; print(push("app", "org/dance").url)')
    assert said.strip() == f"{hub.url}/spaces/org/dance"
    repo = hub.repos["space", "org/dance"]
    pushed = repo.commits[repo.refs["main"]]
    assert pushed == {path.name: path.read_bytes() for path in (tmp_path / "app").iterdir()}
    assert pushed.keys() == {"README.md", "Dockerfile", "requirements.txt", wheel.name}
    wheel.write_bytes(b"PK but no wheel")
    with pytest.raises(ContentError, match=rf"{wheel.name}: is not a wheel"):
        push(tmp_path / "app", "org/dance")
    wheel.unlink()
    (tmp_path / "app" / "song.mp3").write_bytes(b"")
    with pytest.raises(ContentError, match=r"song\.mp3: not allowed in a space.*move it out of"):
        push(tmp_path / "app", "org/dance")


def test_commands_of_a_model_card_are_renamed(tmp_path: Path) -> None:
    text = "---\n# a comment\nlicense: other\n---\n\n# ours\n\n## Use\n\n{}\n\n## Data\n\n`--model other`\n"
    (tmp_path / "README.md").write_text(
        text.format("opendance generate song.mp3 --model ours --out ours.mp4")
    )
    card = model_card_for_hub(tmp_path, "org/name")
    assert card == text.replace("# ours", "# org/name").format(
        "opendance generate song.mp3 --model org/name --out ours.mp4"
    )


def test_what_cannot_be_pushed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "opendance-3d"
    pack([make_sequence(0)], folder)
    for name in ("bad name!!", "opendance-3d", "org/", "/x", "org/x/y"):
        with pytest.raises(HubError, match=rf"^{name}: expected user/name or organisation/name"):
            push(folder, name)
    (folder / "data" / "clip.MP4").write_bytes(b"")
    with pytest.raises(ContentError, match=r"clip\.MP4.*move it out of"):
        push(folder, "org/x")
    (folder / "data" / "clip.MP4").unlink()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HubError, match=r"^org/x: no access token.*hf auth login.*HF_TOKEN"):
        push(folder, "org/x")
    with pytest.raises(HubError, match="neither a dataset"):
        push(folder / "data" / "individual", "org/x")
    (folder / "README.md").unlink()
    with pytest.raises(HubError, match=r"README\.md"):
        push(folder, "org/x")
    with pytest.raises(HubError, match="no such folder"):
        push(tmp_path / "none", "org/x")


@pytest.mark.parametrize(
    ("change", "repo", "cause", "remedy"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "org/x", "cannot be reached", "check the network"),
        ({"HF_HUB_OFFLINE": "1"}, "org/x", "offline", "unset HF_HUB_OFFLINE"),
        ({"HF_TOKEN": ""}, "org/x", "no access token", "hf auth login"),
        ({"HF_TOKEN": "hf_wrong"}, "org/x", "refused the access token (401", "hf auth login"),
        ({}, "theirs/x", "may not write there (403", "hf auth whoami"),
    ],
)
def test_every_cause_of_a_failed_push_has_its_remedy(
    tmp_path: Path, hub: FakeHub, change: dict[str, str], repo: str, cause: str, remedy: str
) -> None:
    pack([make_sequence(0)], tmp_path / "opendance-3d")
    program = "from opendance_hf.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "push", "opendance-3d", repo],
        env=hub.env(tmp_path / "home") | change,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {repo}: ")
    assert cause in line
    assert remedy in line


FACTS = ModelFacts(
    module="opendance_hf.modeling.fact.modeling_fact",
    name="org/dancer",
    model_class="FACTForDanceGeneration",
    model_type="fact",
    stage="fact",
    recipe="model: {}\n",
    parameters=12345,
    dataset=DatasetFacts("Our Dances", "org/dances", "cc-by-4.0", "A Paper", (("individual", "train", 7),)),
    trained_on="504 windows.",
    steps=4000,
    metrics={"loss": 0.25, "fid_k": float("nan"), "div_k": 3.0, "real_div_k": 4.0},
    split="validation",
    base="org/solo",
)


def test_a_model_card_is_read_by_the_hub() -> None:
    card = ModelCard(str(model_card(FACTS)))
    assert card.data.license == "cc-by-4.0"
    assert card.data.datasets == ["org/dances"]
    assert card.data.base_model == "org/solo"
    assert card.data.model_name == "org/dancer"
    found = {result.metric_type: result for result in card.data.eval_results or []}
    assert {name: result.metric_value for name, result in found.items()} == {"loss": 0.25, "div_k": 3.0}
    result = found["div_k"]
    assert (result.dataset_name, result.dataset_type, result.dataset_split) == (
        "Our Dances", "org/dances", "validation",
    )  # fmt: skip
    assert (result.task_type, result.metric_name) == ("music-to-dance", "div k")
    index = card.data.to_dict()["model-index"]
    assert [entry["name"] for entry in index] == ["org/dancer"]
    for text in ("\n# org/dancer\n", "12,345 parameters", "4,000 steps", "| div_k | 3 | 4 |", "> A Paper",
                 'FACTForDanceGeneration.from_pretrained("org/dancer")', "| individual | train | 7 |"):  # fmt: skip
        assert text in card.text, text


def test_the_metrics_of_a_pushed_card_are_those_of_the_repository(tmp_path: Path) -> None:
    card = model_card(dataclasses.replace(FACTS, name="dancer"))
    (tmp_path / "README.md").write_text(str(card))
    pushed = ModelCard(model_card_for_hub(tmp_path, "org/pushed"))
    assert pushed.data.model_name == "org/pushed"
    assert pushed.data.eval_results == card.data.eval_results
    assert "\n# org/pushed\n" in pushed.text


def test_a_model_card_without_metrics() -> None:
    card = ModelCard(str(model_card(dataclasses.replace(FACTS, metrics={}, base="", split=None))))
    assert card.data.eval_results is None
    assert "model-index" not in card.data.to_dict()
    assert "no held-out split" in card.text


def test_a_model_of_an_unknown_type_has_a_card() -> None:
    facts = dataclasses.replace(
        FACTS,
        model_type="tomorrow",
        model_class="Tomorrow",
        module="somewhere.models",
        summary="Dances tomorrow.",
    )
    card = ModelCard(str(model_card(facts)))
    assert "Dances tomorrow. Written by OpenDance-HF" in card.text
    assert "from somewhere.models import Tomorrow\n" in card.text
    assert "tomorrow" in (card.data.tags or [])


def test_every_example_of_a_card_imports_its_model() -> None:
    for kind, entry in MODELS.items():
        model = resolve(entry.model)
        facts = dataclasses.replace(
            FACTS, model_type=kind, model_class=model.__name__, module=model.__module__
        )
        card = model_card(facts).text
        assert entry.description in card
        (line,) = re.findall(r"^from .*$", card, flags=re.MULTILINE)
        space: dict[str, object] = {}
        exec(line, space)
        assert space[model.__name__] is model
        assert ("opendance generate" in card) == entry.dances


@pytest.mark.parametrize(
    ("section", "credit"),
    [
        ("## Citation\n\n*A Paper.*\nA different project also called OpenDance is another.\n", "A Paper."),
        ("## Credits\n\nThe data was obtained\nfrom mocap.cs.cmu.edu.\n\nMore.\n", "The data was obtained from mocap.cs.cmu.edu."),
        ("## Citation\n\n```bibtex\n@inproceedings{x,\n  title = {A {B} Paper},\n  author = {Ann One and Bo Two},\n"
         "  year = {2024},\n}\n```\n", "Ann One and Bo Two, A {B} Paper, 2024"),
        ("## Citation\n## Next\n\nText\n", ""),
        ("## Other\n\nText\n", ""),
    ],
)  # fmt: skip
def test_the_credit_of_a_dataset(section: str, credit: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\n---\n\n# X\n\n{section}\n## Last\n\nEnd.\n")
    assert describe_dataset(tmp_path).credit == credit


def test_the_credit_of_our_own_cards_is_the_paper(tmp_path: Path) -> None:
    pack([make_sequence(0)], tmp_path / "my-dances")
    facts = describe_dataset(tmp_path / "my-dances")
    assert facts.credit == "OpenDance-3D: A Large-Scale Dataset for Music-driven Dance Generation."
    assert (facts.name, facts.splits) == ("My Dances", (("individual", "train", 1),))
