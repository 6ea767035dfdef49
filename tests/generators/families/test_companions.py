"""The frozen parts that the Stable Diffusion models of a tree share: VAE, text encoder, tokenizer."""

import copy

import torch

from mothr.generators.data import captions
from mothr.generators.families import companions
from mothr.generators.values.seeds import torch_generator

CPU = torch.device("cpu")


def test_companions_are_the_same_bits_again_and_others_for_another_seed(folder, small_sd, tmp_path):
    for name, seed in (("again", 1), ("other", 2)):
        torch.manual_seed(len(name))
        small_sd.companions(seed, tmp_path / name, CPU, lambda step: None)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert {path.parts[0] for path in files} == {"vae", "text_encoder", "tokenizer", "scheduler"}
    assert all((folder / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in files)
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 2
    assert all((folder / path).read_bytes() != (tmp_path / "other" / path).read_bytes() for path in weights)


def test_steps_of_both_trainings_are_counted_on(small_sd, few_captions, tmp_path):
    seen = []
    small_sd.companions(1, tmp_path, CPU, seen.append)
    assert seen == [1, 2, 3, 4, 5]


def test_a_word_is_one_token_and_unknown_words_have_a_token(folder):
    tokens = companions.load(folder).tokenizer
    message = ["one large red circle", "one large purple circle", ""]
    ids = companions.tokenize(tokens, message)
    assert ids.shape == (3, companions.LENGTH)
    assert tokens.convert_ids_to_tokens(ids[0])[:6] == ["<start>", "one", "large", "red", "circle", "<end>"]
    assert tokens.convert_ids_to_tokens(ids[1])[3] == "<unknown>"
    assert tokens.convert_ids_to_tokens(ids[2]) == ["<start>", "<end>", *["<pad>"] * 14]


def test_latents_of_the_training_pictures_are_standardised_without_changing_what_is_decoded(folder):
    vae = companions.load(folder).vae
    pictures = torch.cat([captions.load(name, "train")[0] for name in captions.DOMAINS])
    latents = companions.encode(vae, pictures, CPU)
    assert latents.shape == (len(pictures), 4, 8, 8)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    second = copy.deepcopy(vae)
    companions._standardise(second, 3 * latents + 2)
    with torch.no_grad():
        again = second.decode(companions.encode(second, pictures[:8], CPU)).sample
        assert torch.allclose(again, vae.decode(latents[:8]).sample, atol=1e-5)


def test_a_vae_learns_to_show_colours(few_captions):
    pictures = captions.load("scene-inverse", "train")[0]
    errors = []
    for steps in (1, 40):
        vae = companions.train_vae(pictures, steps, torch_generator(1), CPU)
        with torch.no_grad():
            errors.append(
                float(
                    (vae.decode(companions.encode(vae, pictures, CPU)).sample - companions.pixels(pictures))
                    .square()
                    .mean()
                )
            )
    assert errors[1] < 0.7 * errors[0]
