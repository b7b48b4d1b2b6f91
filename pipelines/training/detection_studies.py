"""What zero-shot masks are over many seeds. Run by `python -m pipelines.training.studies`."""

from pipelines.detection import masks
from pipelines.detection.mask_scores import IOUS, harmonic
from pipelines.detection.settings import SPLITS, MaskSettings

Rows = dict[str, dict[str, float | None]]
NAMED = {
    "learned": "CLIP's word vectors",
    "random": "random word vectors",
    "cutout": "CLIP on what is under the mask",
    "boxes": "CLIP's word vectors, filled boxes",
}


def row(result: masks.Result, name: str) -> dict[str, float | None]:
    """AP at RIGHT; the masks and names of the unseen."""
    at, both = IOUS.index(masks.RIGHT), result.scores[name]
    return {
        "seen": float(both["seen"].ap[at]),
        "unseen": float(both["unseen"].ap[at]),
        "harmonic": float(harmonic(both["seen"].ap, both["unseen"].ap)[at]),
        "masks": result.masked["unseen"],
        "names": result.named[name]["unseen"] if name in result.named else None,
    }


def masks_study(seed: int) -> Rows:
    """Of every split the namers; of the first one also without a decoder, conventional, and three times as long."""
    rows: Rows = {}
    for unseen in SPLITS:
        result = masks.tested(MaskSettings(unseen=unseen, seed=seed))
        rows |= {f"{unseen} and five others unseen: {title}": row(result, name) for name, title in NAMED.items()}
        if unseen == MaskSettings().unseen:
            changed = {
                "without a decoder": {"decoder": False},
                "conventional": {"candidates": "conventional"},
                "600 steps": {"steps": 600},
            }
            for title, values in changed.items():
                result = masks.tested(MaskSettings(seed=seed, **values))  # type: ignore[arg-type]  # of mixed types
                rows[f"{unseen} and five others unseen: CLIP's word vectors, {title}"] = row(result, "learned")
    return rows
