"""How every bundled model was made: `python -m pipelines.training.<model> --help`. Resumable, on CPUs or GPUs."""
