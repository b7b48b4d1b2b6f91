"""Figures and numbers to take away, with every setting inside."""

import json

from gradio.processing_utils import save_bytes_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image


def settings_as_json(settings: object) -> dict:
    """What an export records of a settings class: everything but pictures."""
    known = settings if isinstance(settings, dict) else vars(settings)
    return {name: value for name, value in known.items() if not isinstance(value, Image.Image)}


def export_files(tab: str, figure: Image.Image, settings: object, numbers: dict) -> list[str]:
    """The figure as PNG with its parameters in the file's metadata, and everything as JSON. Paths for a `gr.File`."""
    record = {"app": "Patchlight", "tab": tab, "settings": settings_as_json(settings), "numbers": numbers}
    text, folder = json.dumps(record, indent=1), get_upload_folder()
    figure.info["patchlight"] = text
    picture = save_pil_to_cache(figure, folder, name=f"patchlight-{tab}", format="png")
    return [picture, save_bytes_to_cache(text.encode(), f"patchlight-{tab}.json", folder)]
