"""`load(name)`: from a name in the registry to a model that is ready to use, by one path for both tiers.

A bundled model is a folder in `assets/models/`; a hub model is a folder of the hub's cache, fetched first where the
network allows. From there on nothing differs. Loaded models stay in memory up to a budget in bytes, the least
recently used leave first, and two requests for the same model load it once. A model that leaves the cache lives on as
long as somebody is using it.

Only safetensors are opened, only ids of the registry are fetched.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, overload

import psutil

from pipelines.errors import UserError
from pipelines.models.classifiers import Classifier, open_timm
from pipelines.models.detectors import Detector, open_grounding_dino
from pipelines.models.encoders import Model, open_openclip, open_transformers
from pipelines.models.hub import ADVICE, ModelUnavailable, locate, repository
from pipelines.models.parts import device
from pipelines.models.readers import Reader, open_reader
from pipelines.models.registry import MODELS, Family, ModelSpec
from pipelines.models.text_to_image import LatentDecoder, TextToImage, open_autoencoder, open_stable_diffusion

Loaded = Model | Detector | TextToImage | LatentDecoder | Classifier | Reader
Kind = TypeVar("Kind", Model, Detector, TextToImage, LatentDecoder, Classifier, Reader)
OPENERS: dict[Family, Callable[[ModelSpec, Path], Loaded]] = {
    "openclip": open_openclip,
    "vit": open_transformers,
    "mae": open_transformers,
    "grounding_dino": open_grounding_dino,
    "stable_diffusion": open_stable_diffusion,
    "autoencoder": open_autoencoder,
    "classifier": open_timm,
    "reader": open_reader,
}


def open_folder(spec: ModelSpec, folder: Path) -> Loaded:
    """Open the model in this folder, without the cache."""
    return OPENERS[spec.family](spec, folder)


# ------------------------------------------------------------------------------------------------------------- cache


def default_budget() -> int:
    """Megabytes of weights kept in memory: half of what the computer has free, at most 6,000."""
    return int(min(6000, psutil.virtual_memory().available / 2e6))


class Cache:
    """Loaded models, least recently used first, bounded in megabytes; one loading at a time for each model."""

    def __init__(self, megabytes: float, open_model: Callable[[ModelSpec], Loaded]):
        self.megabytes, self.open_model = megabytes, open_model
        self.models: OrderedDict[str, Loaded] = OrderedDict()
        self.lock = threading.Lock()
        self.loading: dict[str, threading.Lock] = {}

    def get(self, name: str) -> Loaded:
        copy = name if device().index in (None, 0) else f"{name} on {device()}"  # one for each GPU that is asked
        with self.lock:
            if copy in self.models:
                self.models.move_to_end(copy)
                return self.models[copy]
            turn = self.loading.setdefault(copy, threading.Lock())
        with turn:
            with self.lock:
                if copy in self.models:  # somebody else loaded it while this one waited
                    return self.models[copy]
            model = self.open_model(MODELS[name])
            with self.lock:
                self.models[copy] = model
                while len(self.models) > 1 and sum(m.megabytes for m in self.models.values()) > self.megabytes:
                    gone, _ = self.models.popitem(last=False)
                    logging.getLogger(__name__).info("%s leaves memory to make room for %s", gone, copy)
                self.loading.pop(copy, None)
            return model


def open_model(spec: ModelSpec) -> Loaded:
    folder = locate(spec)
    try:
        return open_folder(spec, folder)
    except Exception as error:  # damaged files fail in every library's own way
        logging.getLogger(__name__).warning("could not open %s", spec.name, exc_info=True)
        raise ModelUnavailable(
            "The files of {name} cannot be read ({reason}): damaged, or another model's. Delete {folder} and load it "
            "again. {advice}",
            name=spec.name,
            reason=type(error).__name__,
            folder=repository(spec) if spec.tier == "hub" else folder,
            advice=ADVICE,
        ) from error


_CACHE = Cache(default_budget(), open_model)


def preload(name: str) -> None:
    """Have a model of the registry in memory before somebody asks for it."""
    _CACHE.get(name)


@overload
def load(name: str) -> Model: ...


@overload
def load(name: str, kind: type[Kind]) -> Kind: ...


def load(name: str, kind: type = Model) -> Loaded:
    """The model of that name, from memory, the bundled folder, the hub's cache or the hub.

    Args:
        kind: what it must be: `Model` for the families openclip, vit and mae, `Detector` for grounding_dino,
            `TextToImage` for stable_diffusion, `LatentDecoder` for autoencoder, `Classifier` for classifier, `Reader`
            for reader.

    Raises:
        UserError: for a name that is not in the registry, or of another kind of model.
        ModelUnavailable: when its files cannot be had or read.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise UserError(
            "There is no model {name}. The models are: {known}.", name=repr(str(name)[:60]), known=", ".join(MODELS)
        )
    found = _CACHE.get(name)
    if not isinstance(found, kind):
        raise UserError(
            "{name} is of the family {family} and cannot be used here.", name=name, family=MODELS[name].family
        )
    return found
