"""Where a model's files are: in `assets/models/`, in the hub's cache, or still to be fetched. Knows no torch.

Only ids of the registry are fetched, and of them only configuration, vocabulary and safetensors. A download runs in a
process of its own, so that it can be stopped at any moment; what is there already is kept, and the next one goes on.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import HfApi, constants

from pipelines.errors import UserError
from pipelines.registry import BUNDLED, MODELS, ModelSpec

ANSWER_SECONDS = 8  # how long the hub may take to say that it is there
ADVICE = "The bundled storybook models work without it."
DOWNLOAD = (
    "import sys; from huggingface_hub import snapshot_download; "
    "snapshot_download(sys.argv[1], revision=sys.argv[2], allow_patterns=sys.argv[3:])"
)


class ModelUnavailable(UserError):
    """A model cannot be had now; the message says why and what to do."""


def repository(spec: ModelSpec) -> Path:
    """The folder of the hub's cache that belongs to this model."""
    return Path(constants.HF_HUB_CACHE) / f"models--{spec.source.replace('/', '--')}"


def folder_of(spec: ModelSpec) -> Path | None:
    """The folder that holds the model's files now, whatever revision they came from; None when they must be fetched."""
    if spec.tier != "hub":
        return BUNDLED / spec.source
    folders = [f for f in repository(spec).glob("snapshots/*") if (f / spec.weights).exists()]
    return max(folders, key=lambda folder: folder.stat().st_mtime, default=None)


def availability(name: str) -> str:
    """`bundled`, `converted`, `cached` or `download`, without touching the network."""
    spec = MODELS[name]
    return spec.tier if spec.tier != "hub" else "cached" if folder_of(spec) else "download"


def fetch(spec: ModelSpec) -> Iterator[float]:
    """Download the model if need be, yielding the share that is there, from 0 to 1, twice a second.

    Leaving the loop stops the download.

    Raises:
        ModelUnavailable: within ANSWER_SECONDS when the hub does not answer; when it has no safetensors; when the
            download breaks off.
    """
    if folder_of(spec):
        return
    if constants.HF_HUB_OFFLINE or os.environ.get("PATCHLIGHT_MODELS") == "bundled":
        raise ModelUnavailable(
            f"{spec.name} ({spec.source}) is not in this computer's cache, and the hub is off limits. {ADVICE}"
        )
    revision = _ask(spec)
    quiet = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # what nobody reads would fill the pipe
    process = subprocess.Popen(
        _download_command(spec, revision), env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while process.poll() is None:
            there = sum(file.stat().st_size for file in repository(spec).glob("blobs/*") if file.exists())
            yield min(0.99, there / (spec.megabytes * 1e6))
            time.sleep(0.5)
        if process.returncode:
            reason = (process.stderr.read().decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise ModelUnavailable(
                f"The download of {spec.name} broke off ({reason.split(':')[0][:80]}). "
                f"Try again: it goes on where it stopped. {ADVICE}"
            )
    finally:
        process.kill()
        process.wait()
    yield 1.0


def locate(spec: ModelSpec) -> Path:
    """The folder that holds the model, fetched first if need be. Raises what `fetch` raises."""
    for _ in fetch(spec):
        pass
    return folder_of(spec)


def _download_command(spec: ModelSpec, revision: str) -> list[str]:
    return [sys.executable, "-c", DOWNLOAD, spec.source, revision, *spec.files]


def _ask(spec: ModelSpec) -> str:
    """The revision that has the model's safetensors, or a message in good time."""
    ask = ThreadPoolExecutor(max_workers=1)
    try:
        return ask.submit(_revision_with_safetensors, spec).result(timeout=ANSWER_SECONDS)
    except ModelUnavailable:
        raise
    except Exception as error:  # whatever went wrong on the way, the user needs the same two facts
        raise ModelUnavailable(
            f"{spec.name} ({spec.source}, {spec.megabytes} MB) has to be downloaded, and the hub does not answer "
            f"({type(error).__name__}). Check the connection and try again. {ADVICE}"
        ) from error
    finally:
        ask.shutdown(wait=False, cancel_futures=True)


def _revision_with_safetensors(spec: ModelSpec) -> str:
    """The main branch, or the pull request of the hub's own converter where main has only pickles."""
    hub = HfApi()
    files = {file.rfilename for file in hub.model_info(spec.source, timeout=ANSWER_SECONDS / 2).siblings}
    if spec.weights in files:
        return "main"
    for discussion in hub.get_repo_discussions(spec.source, author="SFconvertbot", discussion_type="pull_request"):
        if spec.weights in hub.list_repo_files(spec.source, revision=discussion.git_reference):
            return discussion.git_reference
    raise ModelUnavailable(
        f"{spec.source} offers no {spec.weights}, and pickled weights are never opened. Choose another model."
    )
