"""A detector of the real classes, small and with random weights, for tests of the code around it."""

from pathlib import Path
from typing import Any

import torch

from pipelines.training import detection as training
from pipelines.training.loop import save_checkpoint

NAME = "grounding-dino-tiny"  # the registry's entry under which the tests open it
SMALL: dict[str, dict[str, Any]] = {
    "model": training.MODEL
    | {"d_model": 32, "num_queries": 12, "encoder_layers": 1, "decoder_layers": 2}
    | {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "vision": training.VISION | {"embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 4]},
    "text": training.TEXT | {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64},
}


def stirred(module: torch.nn.Module, amount: float = 0.05) -> torch.nn.Module:
    """Weights that hide nothing: fresh box heads are zero, and a fresh fusion is nearly so."""
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=rng))
    return module.eval()


def exported(place: Path) -> Path:
    """The folder of a small random detector, exported as the bundled one is."""
    torch.manual_seed(0)
    state = stirred(training.build(**SMALL)).state_dict()
    save_checkpoint(place / "last.pt", model=state, step=0, records=[], settings=SMALL)
    training.export(place, place / "model")
    return place / "model"
