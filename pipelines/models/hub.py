"""Where a model's files are: in `assets/models/`, in the hub's cache, or still to be fetched. Knows no torch.

Only ids of the registry are fetched, and of them only configuration, vocabulary and safetensors. A download runs in a
process of its own, so that it can be stopped at any moment; what is there already is kept, and the next one goes on.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import HfApi, constants

from pipelines.errors import UserError
from pipelines.models.registry import BUNDLED, MODELS, ModelSpec

DESCRIBED = {  # files beside the weights without which a family's models do not open
    "openclip": ("open_clip_config.json",),
    "vit": ("config.json", "preprocessor_config.json"),
    "mae": ("config.json", "preprocessor_config.json"),
    "grounding_dino": ("config.json",),
    "stable_diffusion": ("model_index.json",),
    "autoencoder": ("config.json",),
    "reader": ("tokenizer.json",),
}
MOST_HEADER = 100_000_000  # bytes of a safetensors header, as in the library
ANSWER_SECONDS = 8  # how long the hub may take to say that it is there
SPARE = 1e9  # bytes of the disk that a download leaves free
bundled_only = False  # of this process: see `keep_to_bundled`
ADVICE = "The bundled storybook models work without it."
# What is there but damaged looks whole to snapshot_download: those files are fetched anew, by name.
DOWNLOAD = (
    "import sys; from huggingface_hub import hf_hub_download, snapshot_download; "
    "name, revision, *files = sys.argv[1:]; damaged = [file[1:] for file in files if file[0] == '!']; "
    "[hf_hub_download(name, file, revision=revision, force_download=True) for file in damaged]; "
    "snapshot_download(name, revision=revision, allow_patterns=[file for file in files if file[0] != '!'])"
)


class ModelUnavailable(UserError):
    """A model cannot be had now; the message says why and what to do."""


def keep_to_bundled() -> None:
    """From now on the hub is asked for nothing, and its models are not offered."""
    global bundled_only
    bundled_only = True


def repository(spec: ModelSpec) -> Path:
    """The folder of the hub's cache that belongs to this model."""
    return Path(constants.HF_HUB_CACHE) / f"models--{spec.source.replace('/', '--')}"


def folder_of(spec: ModelSpec) -> Path | None:
    """The folder that holds all of the model's files now, whatever revision they came from; None when some must be
    fetched."""
    if spec.tier != "hub":
        return BUNDLED / spec.source
    return next((folder for folder in _snapshots(spec) if not lacks(spec, folder)), None)


def _snapshots(spec: ModelSpec) -> list[Path]:
    """The one that main points to, then the others, newest first."""
    main = repository(spec) / "refs" / "main"
    name = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    folders = [folder for folder in repository(spec).glob("snapshots/*") if folder.is_dir()]
    return sorted(folders, key=lambda each: (each.name == name, each.stat().st_mtime, each.name), reverse=True)


def lacks(spec: ModelSpec, folder: Path) -> dict[str, bool]:
    """The files that a snapshot lacks for this model, and whether each is there but damaged: empty where it is whole.

    A file that broke off while it was fetched lies beside the snapshot, or is a link that leads nowhere.
    """
    needed = {spec.weights, *DESCRIBED[spec.family]}
    if spec.family == "stable_diffusion":
        parts = _json(folder / "model_index.json") or {}
        weights = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
        weights |= {"text_encoder": "model", "safety_checker": "model"}
        there = [part for part, kind in parts.items() if isinstance(kind, list) and kind[0]]
        needed |= {f"{part}/{weights[part]}.safetensors" for part in there if part in weights}
        needed |= {f"{part}/config.json" for part in there if part in weights}
        needed |= {"scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"}
    found = {str(file.relative_to(folder)) for pattern in spec.files for file in folder.glob(pattern)}
    for name in found:
        if name.endswith(".safetensors.index.json"):
            shards = (_json(folder / name) or {}).get("weight_map", {})
            needed |= {str(Path(name).with_name(str(shard))) for shard in shards.values()}
            needed.discard(name.removesuffix(".index.json"))
    wrong = {}
    for name in sorted(needed | found):
        file = folder / name
        if not file.is_file():
            wrong[name] = False
        elif not _whole(str(file), file.stat().st_size, file.stat().st_mtime_ns):
            wrong[name] = True
    return wrong


def _json(file: Path) -> dict | None:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@functools.lru_cache(maxsize=256)
def _whole(file: str, size: int, changed: int) -> bool:
    """Whether it holds as much as it says. Size and time of its last change are there for the cache."""
    if file.endswith(".json"):
        try:
            json.loads(Path(file).read_bytes())
        except (ValueError, RecursionError):
            return False
    if file.endswith(".safetensors"):  # 8 bytes with the length of a header, which tells where each tensor ends
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= min(size - 8, MOST_HEADER):
                return False
            try:
                header = json.loads(opened.read(length))
                ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
            except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
                return False
        return max(ends, default=0) + 8 + length == size
    return size > 0


def told_of(spec: ModelSpec) -> str:
    """What is the matter with the files that are there, in brackets of a message; empty where nothing is."""
    for folder in _snapshots(spec):
        wrong = lacks(spec, folder)
        if wrong:
            name, damaged = next(iter(wrong.items()))
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            return f"{name}{more} {'broken' if damaged else 'missing'}"
    return ""


def availability(name: str) -> str:
    """`bundled`, `converted`, `cached` or `download`, without touching the network."""
    spec = MODELS[name]
    return spec.tier if spec.tier != "hub" else "cached" if folder_of(spec) else "download"


def fetch(spec: ModelSpec) -> Iterator[float]:
    """Download the model if need be, yielding the share that is there, from 0 to 1, twice a second.

    Leaving the loop stops the download.

    Raises:
        ModelUnavailable: within ANSWER_SECONDS when the hub does not answer; when it has no safetensors; when the
            download breaks off or what it leaves is not whole.
    """
    if folder_of(spec):
        return
    if constants.HF_HUB_OFFLINE or bundled_only:
        told = told_of(spec)
        if told:
            raise ModelUnavailable(
                "The files of {name} in {folder} are damaged or incomplete ({files}), and the hub is off limits. Load "
                "it again with a connection, which fetches what is missing, or delete that folder. {advice}",
                name=spec.name,
                folder=repository(spec),
                files=told,
                advice=ADVICE,
            )
        raise ModelUnavailable(
            "{name} ({source}) is not in this computer's cache, and the hub is off limits. {advice}",
            name=spec.name,
            source=spec.source,
            advice=ADVICE,
        )
    revision = _ask(spec)
    quiet = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # what nobody reads would fill the pipe
    process = subprocess.Popen(
        _download_command(spec, revision), env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while process.poll() is None:
            yield min(0.99, there(spec) / (spec.megabytes * 1e6))
            time.sleep(0.5)
        if process.returncode:
            assert process.stderr is not None, "it is a pipe"
            reason = (process.stderr.read().decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise ModelUnavailable(
                "The download of {name} broke off ({reason}). Try again: it goes on where it stopped; where that "
                "fails again, delete {folder} first. {advice}",
                name=spec.name,
                reason=reason.split(":")[0][:80],
                folder=repository(spec),
                advice=ADVICE,
            )
    finally:
        process.kill()
        process.communicate()  # waits for its end, and closes the pipe
    if folder_of(spec) is None:
        told = told_of(spec)
        raise ModelUnavailable(
            "{name} has been downloaded, but its files are damaged or incomplete ({files}). Delete {folder} and load "
            "it again. {advice}"
            if told
            else "{name} has been downloaded, but its files are not there. Delete {folder} and load it again. {advice}",
            name=spec.name,
            files=told,
            folder=repository(spec),
            advice=ADVICE,
        )
    yield 1.0


def there(spec: ModelSpec) -> float:
    """Bytes of this model that have been fetched, whole or in part."""
    return sum(file.stat().st_size for file in repository(spec).glob("blobs/*") if file.exists())


def prefetch(names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Fetch hub models one after another: name and share that is there. What was broken off goes on where it stopped.

    Raises:
        ModelUnavailable: before anything is fetched, where the disk cannot hold all of it; otherwise as in `fetch`.
    """
    missing = [MODELS[name] for name in names if folder_of(MODELS[name]) is None]
    needed = sum(max(0.0, spec.megabytes * 1e6 - there(spec)) for spec in missing)
    cache = Path(constants.HF_HUB_CACHE)
    folder = next(each for each in (cache, *cache.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free - SPARE:
        raise ModelUnavailable(
            "{needed} GB have to be fetched, and {folder} has {free} GB left, of which {spare} GB stay free. Name "
            "fewer models, or set HF_HOME to a folder on another disk. {advice}",
            needed=f"{needed / 1e9:.1f}",
            folder=folder,
            free=f"{free / 1e9:.1f}",
            spare=f"{SPARE / 1e9:g}",
            advice=ADVICE,
        )
    for name in names:
        for share in fetch(MODELS[name]):
            yield name, share
        yield name, 1.0


def locate(spec: ModelSpec) -> Path:
    """The folder that holds the model, fetched first if need be. Raises what `fetch` raises."""
    for _ in fetch(spec):
        pass
    folder = folder_of(spec)
    assert folder is not None, "`fetch` ends only where the model is whole"
    return folder


def _download_command(spec: ModelSpec, revision: str) -> list[str]:
    damaged = {name for folder in _snapshots(spec) for name, there in lacks(spec, folder).items() if there}
    again = [f"!{name}" for name in sorted(damaged)]
    return [sys.executable, "-c", DOWNLOAD, spec.source, revision, *spec.files, *again]


def _ask(spec: ModelSpec) -> str:
    """The revision that has the model's safetensors, or a message in good time."""
    ask = ThreadPoolExecutor(max_workers=1)
    try:
        return ask.submit(_revision_with_safetensors, spec).result(timeout=ANSWER_SECONDS)
    except ModelUnavailable:
        raise
    except Exception as error:  # whatever went wrong on the way, the user needs the same two facts
        raise ModelUnavailable(
            "{name} ({source}, {size} MB) has to be downloaded, and the hub does not answer ({reason}). Check the "
            "connection and try again. {advice}",
            name=spec.name,
            source=spec.source,
            size=spec.megabytes,
            reason=type(error).__name__,
            advice=ADVICE,
        ) from error
    finally:
        ask.shutdown(wait=False, cancel_futures=True)


def _revision_with_safetensors(spec: ModelSpec) -> str:
    """The main branch, or the pull request of the hub's own converter where main has only pickles."""
    hub = HfApi()
    files = {file.rfilename for file in hub.model_info(spec.source, timeout=ANSWER_SECONDS / 2).siblings or ()}
    if spec.weights in files:
        return "main"
    for discussion in hub.get_repo_discussions(spec.source, author="SFconvertbot", discussion_type="pull_request"):
        revision = discussion.git_reference
        if revision and spec.weights in hub.list_repo_files(spec.source, revision=revision):
            return revision
    raise ModelUnavailable(
        "{source} offers no {weights}, and pickled weights are never opened. Choose another model.",
        source=spec.source,
        weights=spec.weights,
    )
