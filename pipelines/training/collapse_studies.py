"""What the collapse lessons say of many seeds: figures by row, for `pipelines.training.studies`."""

from dataclasses import replace

import numpy as np

from pipelines.collapse import greedy, lab, multicrop, pretext, sweeps
from pipelines.collapse.settings import BREAKS, METHODS, Greedy, Lab, MultiCrop, Pretext, preset, whole
from pipelines.world import storybook

Rows = dict[str, dict[str, float | None]]
ROUND = ("apple", "clock", "balloon", "bowl")  # things that look much alike at several angles


def _lab_row(settings: Lab) -> dict[str, float | None]:
    """The end of one run."""
    first, *_, last = lab.train(settings, observed=False)
    return {
        "loss": last.loss,
        "loss_collapsed": last.loss_collapsed,
        "at_constant": float(last.at_constant),
        "collapsed": float(last.collapsed),
        "feature_std": last.feature_std,
        "effective_rank": last.effective_rank,
        "cosine_positive": last.cosine_positive,
        "knn_before": first.knn,
        "knn": last.knn,
        "knn_teacher": last.knn_teacher,
        "teacher_entropy": last.teacher_entropy,
        "teacher_entropy_of_mean": last.teacher_entropy_of_mean,
        "prototypes_in_use": last.prototypes_in_use,
    }


def lab_study(seed: int) -> Rows:
    """Every method whole, and every preset of BREAKS, from the warm start."""
    rows = {name: _lab_row(whole(Lab(method=method, seed=seed))) for method, name in METHODS.items()}
    return rows | {name: _lab_row(preset(name, seed=seed)) for name in BREAKS}


def sweeps_study(seed: int) -> Rows:
    """Batches, views and optimisers, from random weights."""
    return {name: {"steps": settings.steps, **_lab_row(settings)} for name, settings in sweeps.points(seed).items()}


def _multicrop_row(settings: MultiCrop) -> dict[str, float | None]:
    """The end of one run, and how far the 5-NN came."""
    first, *_, last = (step.look for step in multicrop.train(settings) if step.look is not None)
    return {
        "different_objects": last.different.mean,
        "same_object": last.same.mean,
        "gap": last.same.mean - last.different.mean,
        "local_global": last.local_global.mean,
        "unrelated": last.unrelated.mean,
        "affinity_same": last.affinity_same,
        "affinity_other": last.affinity_other,
        "knn_before": first.knn,
        "knn": last.knn,
    }


def multicrop_study(seed: int) -> Rows:
    """Every arrow between local crops, and LoGo's push at several strengths. A difference of two rows that is smaller
    than 2.3 of its standard errors over ten seeds, paired, is none (t-test, 5 %)."""
    start = MultiCrop(seed=seed)
    rows = {
        "global crops alone": replace(start, local_global=False, local_local="off"),
        "local crops pulled to global ones": replace(start, local_local="off"),
        "local crops attract each other": replace(start, local_local="attract"),
    }
    rows |= {f"local crops repel, strength {s:g}": replace(start, strength=s) for s in (0.03, 0.3, 3.0)}
    return {name: _multicrop_row(settings) for name, settings in rows.items()}


def pretext_study(seed: int) -> Rows:
    """Every task: its accuracy, 5-NN of h, and what h and z know of nouns and colours."""
    rows: Rows = {}
    for task in ("none", "rotation", "simclr", "supervised"):
        *_, last = pretext.train(Pretext(task=task, seed=seed))
        assert last.look is not None and last.layers is not None
        rows[task] = {"task_accuracy": last.task_accuracy, "knn": last.look.knn, "knn_angle": last.look.knn_angle}
        for layer in last.layers:
            if layer.name in ("h", "z"):
                rows[task][f"{layer.name}_nouns_knn"] = layer.nouns_knn
                rows[task][f"{layer.name}_nouns_ridge"] = layer.nouns_ridge
                rows[task][f"{layer.name}_colours_ridge"] = layer.colours_ridge
        if last.look.accuracy_by_noun is not None:
            names = dict(zip(storybook.NOUNS, last.look.accuracy_by_noun, strict=True))
            for kind, nouns in (("animals", storybook.ANIMALS), ("round", ROUND)):
                rows[task][f"angle_accuracy_{kind}"] = float(np.nanmean([names[noun] for noun in nouns]))
    return rows


def greedy_study(seed: int) -> Rows:
    """The three modules, greedy, end to end, and untrained."""
    settings, known = Greedy(seed=seed), greedy.baselines(seed)
    rows: Rows = {}
    for name, blocked in (("greedy", True), ("end to end", False)):
        *_, last = greedy.train(settings, blocked)
        for index in range(3):
            assert last.nouns is not None
            loss, nouns = last.losses[index], last.nouns[index]
            rows[f"{name}, module {index + 1}"] = {"loss": loss, "nouns": nouns, "untrained": known.untrained[index]}
    return rows
