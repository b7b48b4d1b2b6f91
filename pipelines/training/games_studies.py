"""What the lessons of `pipelines.games` say of many seeds. Run by `python -m pipelines.training.studies`."""

from pipelines.games import children, players
from pipelines.games.settings import PlayersSettings, child_name

Rows = dict[str, dict[str, float | None]]


def children_study(seed: int) -> Rows:
    """Every child of the table, with one seed. Three seeds make the table the architect searches."""
    rows: Rows = {}
    for step in children.make_table(seed):
        if isinstance(step, children.Step):
            row = {"accuracy": step.right, "multiplications": children.multiplications(step.child)}
            rows[child_name(step.child)] = row
    return rows


def players_study(seed: int) -> Rows:
    """Twins, the end, and what the losses say of the distance, of both games."""
    rows: Rows = {}
    for method in ("gan", "wgan"):
        settings = PlayersSettings(method=method, seed=seed, critic_steps=1 if method == "gan" else 3)
        film = list(players.run(settings))
        pair, last = players.twins(film), film[-1]
        rows[method] = {
            "twins": float(pair is not None),
            "ratio": pair.ratio if pair else None,
            "loss_critic": last.loss_critic,
            "loss_generator": last.loss_generator,
            "distance": last.distance,
            "floor": last.floor,
            "modes": float(last.modes),
            "good": last.good,
            **players.correlations(film),
        }
    return rows
