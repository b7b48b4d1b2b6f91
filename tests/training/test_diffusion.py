"""How storybook-diffusion is made: the optimiser, the autoencoder, the captions, the loss, and what is exported."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipelines.models.registry import BUNDLED
from pipelines.training import autoencoder, diffusion, loop
from pipelines.training import tokenizer as words
from pipelines.training.loop import PRECISIONS, AdamW, Muon, descend, load_checkpoint, orthogonal
from pipelines.world import storybook

SMALL = {
    "latent_channels": 6,
    "encoder_block_out_channels": (16,) * 4,
    "decoder_block_out_channels": (16,) * 4,
    "num_encoder_blocks": (0, 1, 1, 1),
    "num_decoder_blocks": (1, 1, 1, 0),
}
SHORT = ["--cpu", "--batch", "4", "--workers", "0", "--warmup", "1", "--decay", "1", "--save-every", "2"]


# ----------------------------------------------------------------------------------------------------- the optimiser


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_kernels_along_the_nearest_orthogonal_matrix(memory_format):
    """One step: every direction of the gradient by the same amount; Jordan et al. 2024, "Why is it good to
    orthogonalize"."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3, bias=False), nn.Conv2d(32, 3, 1)).to(memory_format=memory_format)
    kernel, before = model[0].weight, model[0].weight.detach().clone()
    optimizer = Muon(model, lr=1e-2, weight_decay=0.0)
    assert len(optimizer.kernels) == 1, "three outputs are too few to orthogonalise"
    uneven = torch.linspace(1, 4, 32)[:, None, None, None]
    kernel.grad = (torch.randn(kernel.shape) * uneven).to(memory_format=memory_format)
    before_scales = torch.linalg.svdvals(kernel.grad.flatten(1))
    gradient = kernel.grad.clone()
    optimizer.step()
    moved = (before - kernel.detach()).flatten(1)
    scales = torch.linalg.svdvals(moved)
    assert before_scales.max() / before_scales.min() > 4 and scales.max() / scales.min() < 2
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * 1e-2, rel=0.3), "AdamW's length of a step"
    assert F.cosine_similarity(moved.flatten(), gradient.flatten(), dim=0) > 0.8


@pytest.mark.parametrize("shape", [(32, 100), (100, 32), (64, 64)])
def test_orthogonal_is_the_newton_schulz_iteration_on_the_square(shape):
    """The five steps on the whole matrix, as Jordan et al. 2024 write them."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x = matrix if shape[0] <= shape[1] else matrix.T
    x = x / x.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    torch.testing.assert_close(orthogonal(matrix), x if shape[0] <= shape[1] else x.T, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(orthogonal(torch.zeros(shape))).all()


def test_muon_leaves_tables_to_adam():
    model = nn.ModuleDict({"words": nn.Embedding(50, 32), "layer": nn.Linear(32, 32)})
    optimizer = Muon(model, lr=1e-3)
    assert [id(p) for p in optimizer.kernels] == [id(model["layer"].weight)]


def arguments(folder: Path, steps: int, precision: str = "float32"):
    command = [*SHORT, "--steps", str(steps), "--checkpoint", str(folder), "--precision", precision]
    return autoencoder.parser().parse_args(command)


@pytest.mark.parametrize("make", [Muon, lambda model, lr: AdamW(model.parameters(), lr=lr)])
def test_two_steps_and_two_more_are_four(tmp_path, make):
    def run(folder: str, steps: int) -> dict:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        batches = torch.randn(8, 4, 16, generator=torch.Generator().manual_seed(1))
        run = arguments(tmp_path / folder, steps)
        run.decay = 1 if steps == 4 else 0.5  # the rate must not have fallen when the run is lengthened
        descend(model, make(model, 1e-2), lambda step: {"total": model(batches[step]).square().mean()}, run, {})
        return loop.trained(tmp_path / folder)

    whole = run("a", 4)
    assert run("b", 2)["step"] == 2
    resumed = run("b", 4)
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name
    assert [record["step"] for record in resumed["records"]][-1] == 4


@pytest.mark.parametrize(
    ("fault", "told"),
    [(lambda total: total * float("nan"), "loss is nan"), (lambda total: (total * 0).sqrt(), "gradient is nan")],
)
@pytest.mark.parametrize("good", [0, 1])
def test_what_is_no_number_stops_the_run_before_anything_is_learnt_from_it(tmp_path, fault, told, good):
    """A root at 0 is a number, and its gradient is none."""
    model = nn.Linear(16, 16)
    run = arguments(tmp_path, 4)
    run.save_every = 1

    def losses(step: int) -> dict:
        total = model.weight.square().sum()
        return {"total": total if step < good else fault(total)}

    with pytest.raises(FloatingPointError, match=f"{told} at step {good}.*{'last.pt' if good else 'no checkpoint'}"):
        descend(model, Muon(model, 1e-3), losses, run, {})
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert (tmp_path / "last.pt").exists() == bool(good)


# ---------------------------------------------------------------------------------------------------- the autoencoder


@pytest.fixture(scope="module", params=PRECISIONS)
def trained(tmp_path_factory, request) -> Path:
    """Four steps of a small autoencoder."""
    folder = tmp_path_factory.mktemp("autoencoder")
    autoencoder.train(arguments(folder, 4, request.param), SMALL)
    return folder


def test_export_folds_the_standardisation_away(trained, tmp_path):
    from diffusers import AutoencoderTiny

    state = load_checkpoint(trained / "last.pt")
    model = autoencoder.Autoencoder(SMALL)
    model.load_state_dict(state["model"])
    model.eval()
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raw = model.vae.encoder(pictures)
    standard = F.batch_norm(raw, model.standardise.running_mean, model.standardise.running_var)
    vae = autoencoder.folded(state)
    assert torch.allclose(vae.encode(pictures).latents, standard, atol=1e-4)
    autoencoder.export(trained, tmp_path / "vae")
    opened = AutoencoderTiny.from_pretrained(tmp_path / "vae").float()
    assert torch.allclose(opened.encode(pictures).latents, standard, atol=2e-2)
    assert opened.decode(standard).sample.shape == (2, 3, 128, 128)


def test_a_settled_encoder_stays_and_the_decoder_goes_on(trained, tmp_path):
    import shutil

    shutil.copy(trained / "last.pt", tmp_path / "last.pt")
    run = arguments(tmp_path, 6)
    run.settle = 4
    autoencoder.train(run, SMALL)
    before, after = (load_checkpoint(folder / "last.pt") for folder in (trained, tmp_path))
    assert after["step"] == 6
    same = {name for name, tensor in before["model"].items() if torch.equal(tensor, after["model"][name])}
    encoder = {name for name in before["model"] if ".decoder." not in name}
    assert encoder <= same < set(before["model"])


def test_parts_are_cut_where_something_happens():
    """A picture that is flat but for one corner."""
    picture = torch.zeros(1, 3, 128, 128)
    picture[..., 80:112, 80:112] = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(0)
    parts = torch.cat([autoencoder.busy_parts(picture, rng) for _ in range(20)])
    assert parts.shape == (20 * autoencoder.PARTS, 3, autoencoder.PART, autoencoder.PART)
    assert (parts.flatten(1).std(1) > 0).float().mean() > 0.95


def test_a_perfect_autoencoder_has_no_loss():
    class Perfect(nn.Module):
        vae = type("Vae", (), {"config": type("Config", (), {"latent_channels": 6})})

        def forward(self, pictures, noise):
            return pictures

    pixels = torch.randn(4, 3, 128, 128).clamp(-2, 2)
    found = autoencoder.losses(Perfect(), pixels, torch.Generator().manual_seed(0), parts=False)
    assert found["total"] == 0 and found["psnr"] == pytest.approx(90)


# -------------------------------------------------------------------------------------------------------- the denoiser


def test_text_encoder_is_the_clip_models_own():
    """Token by token, the hidden states of open_clip's tower in transformers' class."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = BUNDLED / "storybook-detailclip"
    ours = CLIPTextModel(CLIPTextConfig(**diffusion.TEXT)).eval()
    ours.load_state_dict(diffusion.open_clip_text(folder))
    clip = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a cat and a red car on grass", "a frog"])
    found = []
    hook = clip.ln_final.register_forward_hook(lambda _, __, output: found.append(output))
    with torch.no_grad():
        clip.encode_text(tokens)
        answer = ours(tokens).last_hidden_state
    hook.remove()
    assert torch.allclose(answer, found[0], atol=1e-4)


def test_pictures_follow_the_seed_and_their_captions_name_what_is_there():
    pictures = diffusion.Pictures(seed=4, length=12)
    tokenizer = words.build()
    for index in range(12):
        (picture, captions, objects), (again, same, _) = pictures[index], pictures[index]
        assert objects.shape == (16, 16) and 0 < objects.mean() < 1 and objects.max() == 1
        assert torch.equal(picture, again) and torch.equal(captions, same)
        assert picture.shape == (3, 128, 128) and picture.min() >= -1 and picture.max() <= 1
        told = [tokenizer.decode(row.tolist(), skip_special_tokens=False) for row in captions]
        nouns = [{noun for noun in storybook.NOUNS if noun in text.split()} for text in told]
        assert set.intersection(*nouns), "what is there is named in every caption"


def test_captions_of_one_thing_promise_another_at_times():
    rng = np.random.default_rng(0)
    alone, two = (storybook.scene(storybook.TRAIN[0], count) for count in (1, 2))
    assert all(diffusion.named(two, rng, 0.6) == two.objects for _ in range(20))
    told = [diffusion.named(alone, rng, 0.6) for _ in range(1000)]
    assert all(objects[0] == alone.objects[0] for objects in told)
    promised = [objects[1] for objects in told if len(objects) == 2]
    assert len(promised) / len(told) == pytest.approx(0.6, abs=0.05)
    assert {each.noun for each in promised} == set(storybook.NOUNS) - {alone.objects[0].noun}
    assert all((each.colour is None) == (each.noun in storybook.ANIMALS) for each in promised)


def test_one_caption_in_ten_is_empty():
    data = diffusion.Latents(
        latents=torch.zeros(50, 6, 4, 4),
        captions=torch.full((50, 4, 24), 9).short(),
        objects=torch.zeros(50, 4, 4),
    )
    _, text, _ = data.batch(4000, torch.Generator().manual_seed(0))
    empty = (text != 9).all(1)
    assert empty.float().mean() == pytest.approx(diffusion.EMPTY, abs=0.02)
    tokens = words.pretrained()("", padding="max_length", max_length=24).input_ids
    assert text[empty][0].tolist() == tokens, "the same that the pipeline's empty prompt gives"


def test_loss_is_nothing_for_a_model_that_knows_the_answer():
    scheduler, clean = diffusion.scheduler(), torch.randn(16, 6, 16, 16)

    def knows(noisy, time, text):
        a = scheduler.alphas_cumprod[time][:, None, None, None]
        noise = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
        return a.sqrt() * noise - (1 - a).sqrt() * clean  # Salimans & Ho 2022, section 4

    text, objects = torch.zeros(16, 24, dtype=torch.long), torch.zeros(16, 16, 16)
    objects[:, :4] = 1

    def loss(model) -> dict:
        return diffusion.loss(model, clean, text, objects, scheduler, torch.Generator().manual_seed(0))

    assert loss(knows)["total"] < 1e-4
    wrong = loss(lambda *_: torch.zeros_like(clean))
    assert wrong["total"] > 0.1 and wrong["early"] > 0.5

    def wrong_at(rows: slice) -> float:
        def model(noisy, time, text):
            answer = knows(noisy, time, text)
            answer[:, :, rows] += 1
            return answer

        return float(loss(model)["early"])

    assert wrong_at(slice(0, 1)) / wrong_at(slice(8, 9)) == pytest.approx(diffusion.OBJECT / diffusion.BEHIND, rel=0.01)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_steps_make_a_model_that_plain_diffusers_opens(trained, tmp_path, precision):
    from diffusers import StableDiffusionPipeline

    unet = diffusion.UNET | {"block_out_channels": (32, 64), "norm_num_groups": 8}
    command = [*SHORT, "--steps", "2", "--pictures", "8", "--checkpoint", str(tmp_path / "run")]
    run = diffusion.parser().parse_args([*command, "--autoencoder", str(trained), "--precision", precision])
    diffusion.train(run, diffusion.autoencoder_of(trained), unet)
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    apart = [name for name in state["model"] if not torch.equal(state["model"][name], state["average"][name])]
    assert state["step"] == 2 and apart, "the average follows"
    folder = tmp_path / "model"
    diffusion.export(run, folder)
    assert all(file.stat().st_size < 10_000_000 for file in folder.rglob("*") if file.is_file())
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a cat and a frog", num_inference_steps=2).images[0]
    assert picture.size == (128, 128) and np.asarray(picture).std() > 0
