"""One module per tab: the layout, one short handler per event, and `present(result)`. No torch here, no model
library.
"""

import inspect
import os
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: it reports home otherwise
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Before torch is imported: how often its threads look again, each keeping a core busy, before they sleep until the last
# one is done. By OpenMP's own rule they look so long that beside busy neighbours a step takes several times as long.
SPIN, SPINS = "GOMP_SPINCOUNT", "10000"
os.environ.setdefault(SPIN, SPINS)


def _import_gradio() -> None:
    """Import Gradio in half the time: without the `.pyi` stub it writes for every component, its own and ours.

    It parses the source of a hundred classes for them, but passes over a class whose file cannot be found.
    """
    getfile = inspect.getfile

    def hidden(thing: Any) -> str:
        if type(thing).__name__ == "ComponentMeta":
            raise OSError
        return getfile(thing)

    inspect.getfile = hidden  # type: ignore[assignment]  # for the length of one import
    try:
        from gradio import component_meta
    finally:
        inspect.getfile = getfile
    component_meta.create_or_modify_pyi = lambda *_: None


_import_gradio()
