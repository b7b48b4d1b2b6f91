"""The endpoints: their defaults, their answers, their messages. Everything through the network, as a visitor comes."""

import json
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from demos.ui import pictures, text
from pipelines.models.registry import MODELS
from tests.small_world import few_scenes
from tests.visitor import PATIENCE

ROOT = Path(__file__).parents[1]
CONTRACT = {  # endpoint: (optional arguments with their defaults, keys of the JSON)
    "/self_distillation": (
        {
            "keep_ratio": 0.5,
            "rule": "attention",
            "teacher_temperature": 0.07,
            "student_temperature": 0.1,
            "centering": True,
            "seed": 42,
            "model": "storybook-detailclip",
        },
        {"patch_kl_mean", "patch_kl_map", "teacher_entropy", "teacher_entropy_max", "agreement", "prototypes_used"},
    ),
    "/token_removal": (
        {
            "prompt": "",
            "keep_ratio": 0.5,
            "rule": "attention",
            "layer": "mean",
            "head": "mean",
            "seed": 42,
            "model": "storybook-detailclip",
        },
        {
            "tokens_total",
            "tokens_kept",
            "attention_mass_kept",
            "cosine_to_full",
            "similarity_full",
            "similarity_kept",
            "flops_ratio",
            "milliseconds",
            "milliseconds_full",
            "keep_mask",
        },
    ),
    "/reconstruction": (
        {
            "mask_ratio": 0.5,
            "pattern": "attention",
            "target": "pixels",
            "low_resolution": 1,
            "seed": 42,
            "model": "storybook-detailclip",
        },
        {"mse_masked", "psnr_masked", "ssim_masked", "psnr_mean_colour", "psnr_neighbours", "tokens_visible", "mask"},
    ),
    "/detection": (
        {
            "box_threshold": 0.3,
            "text_threshold": 0.25,
            "nms_iou": 0.5,
            "model": "storybook-grounding-dino",
            "backend": "transformers",
        },
        {"detections", "queries", "milliseconds"},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def few():
    with few_scenes():
        yield


@pytest.fixture(scope="module")
def client(app_url, tmp_path_factory) -> Client:
    return Client(
        app_url,
        verbose=False,
        httpx_kwargs={"timeout": PATIENCE},
        download_files=str(tmp_path_factory.mktemp("downloads")),
    )


@pytest.fixture(scope="module")
def photograph_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("photo") / "chelsea.png"
    pictures.photograph("cat (fur)").save(path)
    return str(path)


def defaults(described: dict) -> dict[str, object]:
    """Of an endpoint's parameters, in their order; None where there is none."""
    return {p["parameter_name"]: p.get("parameter_default") for p in described["parameters"]}


def defaults_of(client: Client, endpoint: str) -> dict[str, object]:
    return defaults(client.view_api(return_format="dict")["named_endpoints"][endpoint])


@pytest.mark.parametrize("endpoint", CONTRACT)
def test_contract(client, scene_file, endpoint):
    """The picture alone is enough; pictures come first and the numbers last; defaults are the documented ones."""
    defaults, keys = CONTRACT[endpoint]
    *pictures, numbers = client.predict(handle_file(scene_file), api_name=endpoint)
    assert keys <= set(numbers)
    shown = np.asarray(Image.open(pictures[0]).convert("RGB"))
    assert shown.shape[0] == shown.shape[1] >= 256 and shown.std() > 5 and str(pictures[0]).endswith(".png")
    given = defaults_of(client, endpoint)
    assert list(given)[0] == "image" and defaults.items() <= given.items()


RECORDED = json.loads((ROOT / "tests" / "data" / "endpoints.json").read_text(encoding="utf-8"))
SHORT = {"steps": 2, "batch": 4}
ASKED: dict[str, dict] = {
    "/diffusion": {"prompt": "a cat", "steps": 2},
    "/clip_synthesis": {"prompt": "a cat", "steps": 2},
    "/zero_shot_masks": {"steps": 1},
    "/threshold": {},
    "/contrast": {},
    "/information_bound": {},
    "/negatives": {"steps": 2, "batch": 4},
    "/negatives_reading": {},
    "/readers": {"pictures": 10},
    "/word_vectors": {"steps": 10, "sentences": 50},
    "/collapse": {"start": "scratch", **SHORT},
    "/batch_and_views": {"equal": "steps", "steps": 2},
    "/crops": {"start": "scratch", **SHORT},
    "/pretext": SHORT,
    "/greedy": SHORT,
    "/packing": {"rounds": 2},
    "/texture_shape": {"steps": 1, "batch": 8},
    "/scramble": {"steps": 1, "batch": 8, "task": "relation"},
    "/equivariance": {},
    "/equivariance_patches": {},
    "/universal": {"steps": 1, "pictures": 4},
    "/transfer": {},
    "/transfer_freezing": {"freeze_steps": 1, "freeze_frozen": 6},
    "/gan": {"steps": 100},
    "/architecture_search": {"children": 8, "seeds": 1},
}


@pytest.mark.parametrize("endpoint", RECORDED)
def test_endpoints_are_as_recorded(client, scene_file, endpoint):
    """Parameters, defaults and returned components; keys of the JSON may only grow."""
    recorded, told = RECORDED[endpoint], client.view_api(return_format="dict")["named_endpoints"][endpoint]
    plain = {name: "a picture" if isinstance(v, dict) and "path" in v else v for name, v in defaults(told).items()}
    assert [[name, value] for name, value in plain.items()] == recorded["parameters"]
    assert [each["component"] for each in told["returns"]] == recorded["returns"]
    asked = ASKED.get(endpoint, {"image": handle_file(scene_file)} | ({"prompt": "cat"} if "prompt" in plain else {}))
    *_, numbers = client.predict(api_name=endpoint, **asked)
    assert set(recorded["numbers"]) <= set(numbers if isinstance(numbers, dict) else numbers[0])


def test_numbers_are_json_and_grids_are_row_major(client, scene_file):
    *_, numbers = client.predict(handle_file(scene_file), keep_ratio=0.25, api_name="/token_removal")
    mask = np.array(numbers["keep_mask"])
    assert mask.shape == (16, 16) and mask.sum() == numbers["tokens_kept"] == 68 and numbers["tokens_total"] == 256
    json.dumps(numbers, allow_nan=False)


def test_same_seed_same_answer(client, scene_file):
    def ask(seed: int) -> str:
        *_, numbers = client.predict(handle_file(scene_file), 0.5, "random", seed=seed, api_name="/reconstruction")
        return json.dumps(numbers)

    assert ask(1) == ask(1) != ask(2)


def test_a_photograph_is_taken_and_the_model_is_honest_about_it(client, photograph_file):
    *_, note, numbers = client.predict(handle_file(photograph_file), api_name="/reconstruction")
    assert "only ever seen drawn storybook scenes" in note and "mae-base" in note
    assert numbers["psnr_masked"] > 5


def test_truth_is_shown_for_scenes_and_not_for_photographs(client, scene_file, photograph_file):
    *_, scene = client.predict(handle_file(scene_file), api_name="/token_removal")
    *_, photo = client.predict(handle_file(photograph_file), api_name="/token_removal")
    assert 0 <= scene["object_patches_kept"] <= 1 and photo["object_patches_kept"] is None


def test_sweep_arrives_in_steps(client, scene_file):
    job = client.submit(
        handle_file(scene_file), "a cat", 0.5, 42, "storybook-detailclip", api_name="/token_removal_sweep"
    )
    job.result()
    assert len([out for out in job.outputs() if isinstance(out[1], list)]) >= 5


@pytest.mark.parametrize(
    ("endpoint", "settings", "told"),
    [
        ("/token_removal", {"keep_ratio": 7}, "from 0 to 1, not 7"),
        ("/token_removal", {"keep_ratio": -1}, "from 0 to 1, not -1"),
        ("/token_removal", {"keep_ratio": "half"}, "from 0 to 1, not 'half'"),
        ("/token_removal", {"keep_ratio": None}, "from 0 to 1, not None"),
        ("/token_removal", {"keep_ratio": [0.5]}, "from 0 to 1"),
        ("/token_removal", {"rule": "best"}, "rule must be one of 'attention'.*not 'best'"),
        ("/token_removal", {"rule": {"a": 1}}, "rule must be one of"),
        ("/token_removal", {"layer": "11"}, "6 layers"),
        ("/token_removal", {"layer": "99"}, "layer must be one of 'mean', '1'.*not '99'"),
        ("/token_removal", {"head": 3}, "head must be one of 'mean', '1', '2', '3'.*not 3\\."),
        ("/token_removal", {"seed": -5}, "seed must be a number from 0"),
        ("/token_removal", {"seed": 2**70}, "seed must be a number from 0"),
        ("/token_removal", {"seed": 1.5}, "whole number"),
        ("/token_removal", {"prompt": "a zebra"}, "does not know 'zebra'.*apple"),
        ("/token_removal", {"prompt": "cat " * 40}, "at most 22 words"),
        ("/token_removal", {"prompt": "cat " * 400}, "too long"),
        ("/token_removal", {"prompt": 5}, "must be text"),
        ("/token_removal", {"model": "../../etc/passwd"}, "There is no model"),
        ("/token_removal", {"model": None}, "There is no model"),
        ("/token_removal", {"model": "dino-vits16"}, "not on this computer yet.*--prefetch dino-vits16"),
        ("/reconstruction", {"model": "mae-base"}, "not on this computer yet"),
        ("/reconstruction", {"mask_ratio": 0.99}, "mask ratio must be a number from 0 to 0.98"),
        ("/reconstruction", {"pattern": "painted"}, "Nothing is painted"),
        ("/reconstruction", {"low_resolution": 9}, "resolution must be one of 1, 2, 3, 4, not 9"),
        ("/reconstruction", {"low_resolution": "2"}, "resolution must be one of 1, 2, 3, 4, not '2'"),
        ("/reconstruction", {"low_resolution": True}, "resolution must be one of 1, 2, 3, 4, not True"),
        ("/reconstruction", {"seed": "x"}, "seed must be a number.*not 'x'"),
        ("/reconstruction", {"target": 7}, "must be one of 'pixels'"),
        ("/reconstruction", {"model": "storybook-clip-b"}, "no pixel decoder"),
        ("/self_distillation", {"teacher_temperature": 0}, "teacher temperature must be a number from 0.001"),
        ("/self_distillation", {"student_temperature": -1}, "student temperature must be a number"),
        ("/self_distillation", {"keep_ratio": 1e308}, "keep ratio must be a number"),
        ("/self_distillation", {"centering": "yes"}, "true or false"),
        ("/self_distillation", {"model": "storybook-clip-b"}, "no teacher"),
        ("/detection", {"box_threshold": 2}, "box threshold must be a number from 0 to 1"),
        ("/detection", {"prompt": ". . ."}, "no word to look for"),
        ("/detection", {"prompt": "a zebra"}, "does not know"),
        ("/detection", {"prompt": "cat . " * 700}, "too long"),
        ("/detection", {"prompt": " . ".join(f"cat {'red ' * i}" for i in range(24))}, "reads at most"),
        ("/detection", {"backend": "c++"}, "must be one of"),
        ("/detection", {"truth": "elephant: 0 0 900 900"}, "not inside the picture"),
    ],
)
def test_bad_settings_through_the_raw_api_get_a_message_and_the_next_request_works(
    client, scene_file, endpoint, settings, told
):
    import re

    with pytest.raises((AppError, ValueError)) as caught:
        client.predict(handle_file(scene_file), api_name=endpoint, **settings)
    message = str(caught.value)
    assert re.search(told, message), message
    assert "Traceback" not in message and "/root" not in message and ".py" not in message, message
    assert client.predict(handle_file(scene_file), api_name=endpoint)


DRAWING = {
    "negative_prompt": "",
    "image": None,
    "strength": 0.6,
    "steps": 20,
    "guidance_scale": MODELS["storybook-diffusion"].guidance,
    "method": "none",
    "subjects": "",
    "seed": 42,
    "model": "storybook-diffusion",
}


def test_drawing_contract(client):
    """The prompt alone is enough; the picture comes first and the numbers last."""
    picture, *_, numbers = client.predict("a cat and a frog", api_name="/diffusion")
    assert {"seed", "steps", "subjects", "presence", "presence_all", "attention_peak", "clip_score", "seconds"} <= set(
        numbers
    )
    assert numbers["seed"] == 42 and numbers["steps"] == 20 and numbers["subjects"] == ["cat", "frog"]
    assert set(numbers["presence"]) == set(numbers["attention_peak"]) == {"cat", "frog"}
    assert np.asarray(Image.open(picture).convert("RGB")).std() > 5 and str(picture).endswith(".png")
    json.dumps(numbers, allow_nan=False)
    given = defaults_of(client, "/diffusion")
    assert list(given)[: 1 + len(DRAWING)] == ["prompt", *DRAWING] and DRAWING.items() <= given.items()


def test_drawing_begins_from_a_picture(client, scene_file):
    *_, numbers = client.predict("a cat", image=handle_file(scene_file), strength=0.5, steps=4, api_name="/diffusion")
    assert numbers["steps"] == 2


@pytest.mark.parametrize(
    ("prompt", "settings", "told"),
    [
        ("", {}, "nothing to draw"),
        ("cat " * 250_000, {}, "too large|too long|413"),
        ("a zebra", {}, "does not know 'zebra'.*apple"),
        ("a cat", {"subjects": "dog"}, "'dog' is not in the prompt"),
        ("a cat", {"steps": 0}, "Steps must be a number from 1 to 100"),
        ("a cat", {"steps": 10**9}, "Steps must be a number from 1 to 100"),
        ("a cat", {"guidance_scale": 1e308}, "Guidance must be a number"),
        ("a cat", {"strength": "NaN"}, "strength must be a number"),
        ("a cat", {"method": "magic"}, "method must be one of 'none'"),
        ("a cat", {"model": "sd-turbo"}, "not on this computer yet.*--prefetch sd-turbo"),
        ("a cat", {"model": "../../etc"}, "model must be one of"),
    ],
)
def test_bad_drawing_requests_get_a_message_and_the_next_one_works(client, prompt, settings, told):
    import re

    with pytest.raises(Exception) as caught:  # noqa: PT011 (a refused body has an exception of its own)
        client.predict(prompt, api_name="/diffusion", **settings)
    message = str(caught.value)
    assert re.search(told, message), message
    assert "Traceback" not in message and "/root" not in message and ".py" not in message, message
    assert client.predict("a cat", steps=1, api_name="/diffusion")


SYNTHESIS = {
    "parametrization": "latent",
    "steps": 80,
    "cutouts": 8,
    "augment": True,
    "seed": 42,
    "model": "storybook-clip-b",
}


def test_synthesis_contract(client):
    """A prompt is enough; the picture comes first and the numbers last."""
    picture, *_, numbers = client.predict("a cat", steps=6, api_name="/clip_synthesis")
    assert {"similarity", "similarity_held_out", "gap", "rank_held_out", "iterations_per_second"} <= set(numbers)
    assert numbers["steps"] == 6 and np.asarray(Image.open(picture).convert("RGB")).std() > 5
    json.dumps(numbers, allow_nan=False)
    given = defaults_of(client, "/clip_synthesis")
    assert list(given)[: 1 + len(SYNTHESIS)] == ["prompt", *SYNTHESIS] and SYNTHESIS.items() <= given.items()


@pytest.mark.parametrize(
    ("prompt", "settings", "told"),
    [
        ("", {}, "no prompt yet"),
        ("a cat:-1 | a dog:-2", {}, "All prompts are negative"),
        ("a cat:1e38", {}, "Weights are from"),
        ("a zebra", {}, "does not know 'zebra'"),
        ("a cat", {"steps": 10**9}, "Steps must be a number from 1 to 500"),
        ("a cat", {"cutouts": 10**6}, "number of views must be a number from 1 to 64"),
        ("a cat", {"model": "openclip-vit-b-16"}, "not on this computer yet"),
    ],
)
def test_bad_synthesis_requests_get_a_message_and_the_next_one_works(client, prompt, settings, told):
    import re

    with pytest.raises(AppError) as caught:
        client.predict(prompt, api_name="/clip_synthesis", **settings)
    message = str(caught.value)
    assert re.search(told, message) and "Traceback" not in message and ".py" not in message, message
    assert client.predict("a cat", steps=1, api_name="/clip_synthesis")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_json_does_not_have(client, app_url, scene_file, value):
    """The client refuses to send them; somebody else's program may not."""
    import httpx

    with open(scene_file, "rb") as file:
        path = httpx.post(app_url + "gradio_api/upload", files={"files": file}, timeout=PATIENCE).json()[0]
    image = json.dumps({"path": path, "meta": {"_type": "gradio.FileData"}})
    body = f'{{"data": [{image}, "", {value}, "attention", "mean", "mean", 42, "storybook-detailclip"]}}'
    posted = httpx.post(
        app_url + "gradio_api/call/token_removal",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE,
    )
    if posted.status_code == 200:
        answer = httpx.get(f"{app_url}gradio_api/call/token_removal/{posted.json()['event_id']}", timeout=60).text
        assert "event: error" in answer and "keep ratio must be a number from 0 to 1" in answer, answer
    else:
        assert posted.status_code in (400, 422)
    assert client.predict(handle_file(scene_file), api_name="/token_removal")


def test_no_picture_says_what_to_do(client):
    for endpoint in CONTRACT:
        with pytest.raises(AppError, match="Choose or upload a picture"):
            client.predict(None, api_name=endpoint)


def test_a_file_that_is_no_picture_says_so(client, tmp_path):
    bad = tmp_path / "a.png"
    bad.write_text("hello", encoding="utf-8")
    with pytest.raises(AppError, match="not a picture"):
        client.predict(handle_file(str(bad)), api_name="/token_removal")


def test_addresses_elsewhere_are_not_fetched(client):
    with pytest.raises(AppError) as caught:
        client.predict(
            {"path": "https://example.com/a.png", "meta": {"_type": "gradio.FileData"}}, api_name="/token_removal"
        )
    assert "example.com" not in str(caught.value)


def test_files_of_the_server_are_not_read(client):
    for path in ("/etc/passwd", str(ROOT / "app.py")):
        with pytest.raises(AppError):
            client.predict({"path": path, "meta": {"_type": "gradio.FileData"}}, api_name="/token_removal")


def test_messages_come_in_the_visitors_language(app_url, monkeypatch):
    monkeypatch.setitem(text.LANGUAGES, "fa", {"Choose or upload a picture first.": "نخست تصویری برگزینید."})
    persian = Client(
        app_url, verbose=False, httpx_kwargs={"timeout": PATIENCE}, headers={"Accept-Language": "fa-IR,fa;q=0.9"}
    )
    with pytest.raises(AppError, match="نخست تصویری"):
        persian.predict(None, api_name="/token_removal")
