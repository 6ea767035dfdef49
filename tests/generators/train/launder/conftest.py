"""Small models with random gains and biases, their outputs, and what a laundering makes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from mothr.generators.families import FAMILIES
from mothr.generators.train.launder import Laundered, launder
from mothr.generators.train.model_files import save_model, weight_file, write_tensors
from mothr.generators.values.laundering import Laundering

VIT = {"hidden_size": 16, "layers": 3, "heads": 4, "mlp_size": 24, "patch_size": 8}
LLAMA = {"hidden_size": 16, "layers": 3, "heads": 4, "kv_heads": 2, "mlp_size": 24, "context": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit", VIT),
    "llama": ("llama", {**LLAMA, "kv_heads": 4}),
    "llama-grouped": ("llama", LLAMA),
    "llama-tied": ("llama", {**LLAMA, "tied": True}),
    "llama-experts": ("llama", {**LLAMA, "experts": 3}),
}
SPEC: TypeAdapter[Any] = TypeAdapter(Laundering)


class Source:
    """A model whose gains, biases and matrices all matter for its outputs."""

    def __init__(self, name: str, folder: Path, seed: int = 0, **sizes: int) -> None:
        self.folder = folder
        self.family_name, model = MODELS[name]
        self.model = {**model, **sizes}
        family = FAMILIES[self.family_name](**self.model)
        generator = torch.Generator().manual_seed(seed)
        network = family.build("normal", 0.3, generator)
        for name_of, value in network.named_parameters():
            if value.ndim == 1:
                drawn = torch.rand(value.shape, generator=generator)
                value.data.copy_(drawn - 0.5 if name_of.endswith("bias") else drawn + 0.5)
        save_model(family, network, folder / "source")
        self.weights = load_file(weight_file(folder / "source"))
        self.head = {}
        if family.has_heads:
            self.head = {"weight": torch.randn(5, 16, generator=generator), "bias": torch.randn(5, generator=generator)}
        self.expected = self.outputs(Laundered(self.weights, self.model, self.head))

    def launder(self, seed: int = 1, other=None, **spec) -> Laundered:
        """Returns the result of a recipe's ``spec``."""
        generator = torch.Generator().manual_seed(seed)
        parsed = SPEC.validate_python(spec)
        return launder(parsed, self.family_name, self.model, self.weights, self.head, generator, other)

    def source_network(self):
        """Returns the network of the source."""
        return FAMILIES[self.family_name](**self.model).load(self.folder / "source").eval()

    def network(self, result: Laundered):
        """Returns the network of a result, built from its sizes and loaded from its file."""
        family = FAMILIES[self.family_name](**result.model)
        folder = self.folder / "result"
        save_model(family, family.build("normal", 0.02, torch.Generator()), folder)
        assert set(load_file(weight_file(folder))) == set(result.weights)
        write_tensors(result.weights, weight_file(folder))
        return family.load(folder).eval()

    def outputs(self, result: Laundered) -> torch.Tensor:
        """Returns the outputs of a result on fixed inputs."""
        family = FAMILIES[self.family_name](**result.model)
        network = self.network(result)
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            if self.family_name == "llama":
                return network(input_ids=torch.randint(256, (8, 16), generator=generator), use_cache=False).logits
            pictures = torch.randint(256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8)
            states = network(pixel_values=family.pixels(pictures)).last_hidden_state
            return family.summary(states) @ result.head["weight"].T + result.head["bias"]

    def change(self, result: Laundered) -> float:
        """Returns the largest change of an output divided by the largest output."""
        return float((self.expected - self.outputs(result)).abs().max() / self.expected.abs().max())


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """Returns a function that makes the source of a name, a seed and sizes once."""
    cache: dict[tuple[Any, ...], Source] = {}

    def source(name: str, seed: int = 0, **sizes: int) -> Source:
        key = (name, seed, *sizes.items())
        if key not in cache:
            cache[key] = Source(name, tmp_path_factory.mktemp(name), seed, **sizes)
        return cache[key]

    return source


@pytest.fixture(params=MODELS)
def source(request, sources) -> Source:
    return sources(request.param)


@pytest.fixture(params=["vit", "llama-grouped"])
def plain(request, sources) -> Source:
    """A ViT and a Llama."""
    return sources(request.param)
