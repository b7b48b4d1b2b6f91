"""Three ways to read pictures with words, of the same size: CLIP, SimVLM and CoCa.

    CLIP    two towers, a vector each: finds (Radford et al. 2021, https://arxiv.org/abs/2103.00020, figure 3)
    SimVLM  patches and words in one sequence, the first part seen whole, the rest word by word: describes
            (Wang et al. 2021, https://arxiv.org/abs/2108.10904, equation 2 and figure 1)
    CoCa    two towers, and a decoder that asks the patches for the next word: does both (Yu et al. 2022,
            https://arxiv.org/abs/2205.01917, equation 4 and figure 2)

CLIP and CoCa are OpenCLIP's own classes in its format of checkpoints; SimVLM, which it lacks, is put together from its
parts. `P` is the number of patches, `T` of tokens, `W` the width, `V` the number of words, `E` the length of a vector.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, Transformer, VisionTransformer
from PIL import Image
from torch import Tensor, nn

from pipelines.errors import OTHER_MODEL, require_finite
from pipelines.models.parts import Loaded, closed_vocabulary, device, normalised, refuse_words
from pipelines.models.registry import ModelSpec
from pipelines.models.vision import centre_square

PAD = "[PAD]"


def prefix_mask(prefix: int, length: int) -> Tensor:
    """(length, length) to add to attention: the first `prefix` see one another, each later one what comes before it."""
    place = torch.arange(length)
    seen = (place[None] <= place[:, None]) | (place[None] < prefix)
    return torch.zeros(length, length).masked_fill(~seen, float("-inf"))


class SimVLM(nn.Module):
    """A prefix language model over patches and words, of OpenCLIP's parts.

    Args:
        vision: `image_size`, `patch_size`, `width`, `layers`, `head_width` of the image tower.
        text: `vocab_size`, `context_length`, `heads`, `layers` of the sequence of patches and words.
    """

    def __init__(self, vision: dict[str, int], text: dict[str, int]):
        super().__init__()
        width, heads = vision["width"], vision["width"] // vision["head_width"]
        self.visual = VisionTransformer(
            vision["image_size"], vision["patch_size"], width, vision["layers"], heads, 4.0, output_tokens=True
        )
        self.visual.proj = None  # it has no vector of the whole picture
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(text["context_length"], width) * 0.01)
        self.transformer = Transformer(width, text["layers"], text["heads"])
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, text["vocab_size"]) * width**-0.5)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, patches: Tensor, ids: Tensor, given: int = 1) -> Tensor:
        """(B, P, W) patches, (B, T) words -> (B, T, V) logits of each next word.

        Args:
            given: how many words belong to the part that is seen whole, at least the start.
        """
        words = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        sequence = torch.cat([patches, words.to(patches.dtype)], 1)
        count = patches.shape[1]
        mask = prefix_mask(count + given, sequence.shape[1]).to(sequence)
        said = self.transformer(sequence, attn_mask=mask)[:, count:]
        return self.ln_final(said) @ self.text_projection


@dataclass(frozen=True, eq=False, kw_only=True)
class Reader(Loaded):
    """One of the three in memory."""

    spec: ModelSpec
    module: Any  # OpenCLIP's CLIP or CoCa, or SimVLM; in eval mode, without gradients
    tokenizer: Any  # transformers' own object
    context: int  # tokens of a caption, the start and the end among them
    size: int  # pixels, the side of the square it looks at
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def finds(self) -> bool:
        """It has a vector for a picture and one for a caption."""
        return not isinstance(self.module, SimVLM)

    @property
    def describes(self) -> bool:
        """It says a next word."""
        return isinstance(self.module, SimVLM) or hasattr(self.module, "text_decoder")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return tuple(self.module.visual.grid_size)

    def id_of(self, token: str) -> int:
        return self.tokenizer.convert_tokens_to_ids(token)

    def pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """The middles of pictures -> (B, 3, size, size), normalised."""
        squares = [centre_square(picture.convert("RGB")) for picture in pictures]
        return normalised(squares, self.size, self.mean, self.deviation).contiguous().to(self.device)

    def ids(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (B, context) token ids: the start, the words, the end, padding.

        Raises:
            UserError: for a word it does not know, or a caption that is too long.
        """
        known = closed_vocabulary(self.tokenizer)
        assert known is not None, "readers were trained with a tokenizer of whole words"
        refuse_words(self.spec, self.tokenizer, known, captions, self.context - 2)
        encoded = self.tokenizer(list(captions), padding="max_length", max_length=self.context, return_tensors="pt")
        return encoded["input_ids"].to(self.device)

    # ------------------------------------------------------------------------------------------------------- finding

    @torch.no_grad()
    def picture_vectors(self, pixels: Tensor) -> Tensor:
        """(B, E) of unit length."""
        found = F.normalize(self.module.encode_image(pixels).float(), dim=-1)
        require_finite("the features of these pictures", OTHER_MODEL, found)
        return found

    @torch.no_grad()
    def caption_vectors(self, ids: Tensor) -> Tensor:
        """(B, E) of unit length."""
        return F.normalize(self.module.encode_text(ids).float(), dim=-1)

    # ---------------------------------------------------------------------------------------------------- describing

    @torch.no_grad()
    def see(self, pixels: Tensor) -> Tensor:
        """(B, P, W): what a describing model keeps of pictures, once for all words."""
        return self.module.visual(pixels)[1]

    def logits(self, patches: Tensor, ids: Tensor, given: int = 1) -> Tensor:
        """(B, P, W), (B, T) -> (B, T, V): scores of each next word. `given` words are seen whole by SimVLM; for CoCa
        every word sees only those before it, given or not."""
        if isinstance(self.module, SimVLM):
            return self.module(patches, ids, given)
        return self.module.text_decoder(patches, self.module.text(ids)[1])

    @torch.no_grad()
    def likelihoods(self, patches: Tensor, ids: Tensor) -> Tensor:
        """(B,) ln p(caption | picture), nats; of one picture's patches (1, P, W) or one picture a caption."""
        logits = self.logits(patches.expand(len(ids), -1, -1), ids).float()[:, :-1]
        told = -F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], ignore_index=self.id_of(PAD), reduction="none")
        return told.sum(1)


@contextmanager
def watch_attention(layers: Sequence[nn.MultiheadAttention]) -> Iterator[list[Tensor]]:
    """Within the `with`, each layer's attention (B, T, S), the mean over its heads, is appended to the list that this
    yields, one entry for each time a layer runs."""
    seen: list[Tensor] = []

    def ask(module: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        return arguments, {**keywords, "need_weights": True, "average_attn_weights": True}

    def keep(module: nn.Module, arguments: tuple, output: tuple) -> None:
        seen.append(output[1].detach())

    handles = [layer.register_forward_pre_hook(ask, with_kwargs=True) for layer in layers]
    handles += [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def looking(reader: Reader) -> list[nn.MultiheadAttention]:
    """The layers in which words look at patches: CoCa's cross-attention, SimVLM's only kind."""
    if isinstance(reader.module, SimVLM):
        return [block.attn for block in reader.module.transformer.resblocks]
    return [block.attn for block in reader.module.text_decoder.cross_attn]


def open_reader(spec: ModelSpec, folder: Path) -> Reader:
    import open_clip
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    own = folder / "config.json"
    if own.exists():
        config = json.loads(own.read_text(encoding="utf-8"))
        module: Any = SimVLM(config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"])
        module.load_state_dict(load_file(folder / spec.weights))
        module = module.to(device())
    else:
        config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        module = open_clip.create_model(f"local-dir:{folder}", device=device())
    sight = config["preprocess_cfg"]
    return Reader(
        spec=spec,
        module=module.eval().requires_grad_(False),
        tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        context=config["model_cfg"]["text_cfg"]["context_length"],
        size=sight["size"],
        mean=tuple(sight["mean"]),
        deviation=tuple(sight["std"]),
    )
