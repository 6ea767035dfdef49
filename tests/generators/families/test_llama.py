"""The Llama family: files that load with transformers and say nothing, windows inside one domain, accuracy against chance."""

import copy
import json
from io import BytesIO

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mothr.benchmark.errors import MothrError
from mothr.generators.data import text
from mothr.generators.families.llama import WINDOWS, LanguageModelling, Llama
from mothr.generators.train.model_files import save_model
from mothr.generators.train.train import train
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

SIZES = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 4, "mlp_size": 48, "context": 16}
FAMILY = Llama(**SIZES)
GROUPED = Llama(**{**SIZES, "kv_heads": 2})
TIED = Llama(**SIZES, tied=True)
CPU = torch.device("cpu")


def built(init="normal", seed=0, family=FAMILY):
    return family.build(init, 0.02, torch_generator(seed))


def objective(*tasks, context=16):
    return LanguageModelling(tasks, context, CPU)


@pytest.fixture
def toys(monkeypatch):
    """Adds domains of one letter each, ``toy-a`` and ``toy-b``, and one of the alphabet over and over."""
    for name, line in (("toy-a", b"a" * 500), ("toy-b", b"b" * 900), ("toy-z", b"abcdefghijklmnopqrstuvwxyz" * 30)):
        readers = {f"{at}": BytesIO(f"{at:04}".encode() + line).getvalue for at in range(300)}
        monkeypatch.setitem(text.DOMAINS, name, text.TextDomain(name, "", "", lambda readers=readers: readers))
    text._subsets.cache_clear()
    yield
    text._subsets.cache_clear()


class Always(torch.nn.Module):
    """Answers one byte whatever it reads, and keeps what it read."""

    def __init__(self, byte: int) -> None:
        super().__init__()
        self.byte, self.seen = byte, []

    def forward(self, input_ids, use_cache):
        self.seen.append(input_ids)
        self.logits = torch.zeros(*input_ids.shape, 256)
        self.logits[..., self.byte] = 1
        return self


# The model


@pytest.mark.parametrize("init", ["normal", "truncated-normal", "xavier-uniform", "orthogonal"])
def test_a_fresh_model_has_drawn_matrices_norms_of_one_and_no_biases(init):
    for name, value in built(init).named_parameters():
        assert "bias" not in name
        if value.ndim == 1:
            assert (value == 1).all()
        else:
            assert 0.005 < value.std() < 0.3
            assert abs(value.mean()) < 0.02


def test_embeddings_are_drawn_from_a_normal_distribution():
    assert built("xavier-uniform").model.embed_tokens.weight.detach().std() == pytest.approx(0.02, rel=0.05)


def test_a_fresh_model_depends_on_its_generator_alone():
    torch.manual_seed(1)
    first = built(seed=3)
    torch.manual_seed(2)
    second, other = built(seed=3), built(seed=4)
    weights = [torch.cat([value.flatten() for value in model.parameters()]) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_saved_model_loads_equal_and_with_transformers(tmp_path):
    from transformers import AutoModelForCausalLM

    model = built()
    FAMILY.save(model, tmp_path / "model")
    loaded = FAMILY.load(tmp_path / "model").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "model").config
    assert (config.model_type, config.vocab_size, config.max_position_embeddings) == ("llama", 256, 16)


def test_the_head_is_stored_and_is_not_the_embeddings():
    weights = built().state_dict()
    assert weights["lm_head.weight"].shape == weights["model.embed_tokens.weight"].shape
    assert not torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])


def test_a_model_loaded_and_saved_again_has_the_same_files_beside_weights(tmp_path):
    FAMILY.save(built(), tmp_path / "first")
    FAMILY.save(FAMILY.load(tmp_path / "first"), tmp_path / "second")
    for folder in ("first", "second"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["config.json", "model.safetensors"]
    configs = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("first", "second")]
    assert configs[0] == configs[1]


def test_fewer_key_and_value_heads_make_narrower_matrices():
    shapes = {
        name.split(".")[-2]: tuple(value.shape)
        for name, value in built(family=GROUPED).named_parameters()
        if "self_attn" in name
    }
    assert shapes == {"q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, r"hidden_size 32 is not a multiple of twice model\.heads 5"),
        ({"heads": 32, "kv_heads": 32}, "heads of even width"),
        ({"kv_heads": 3}, r"model\.heads 4 is not a multiple of model\.kv_heads 3"),
        ({"context": text.LEAST}, f"less than {text.LEAST}"),
        ({"patch_size": 8}, "patch_size"),
    ],
)
def test_inconsistent_sizes_are_an_error(change, message):
    with pytest.raises(ValidationError, match=message):
        Llama(**{**SIZES, **change})


def test_an_unknown_domain_is_an_error_with_near_names():
    with pytest.raises(MothrError, match=r"unknown text domain 'text-font'; did you mean .*text-fonts"):
        FAMILY.check_tasks(["text-python", "text-font"])


@pytest.mark.parametrize(
    ("family", "ranks", "target", "message"),
    [
        (FAMILY, (4,), "query", "'query' is not a linear layer of this family; choose from q_proj"),
        (FAMILY, (4, 33), "q_proj", "rank 33 is above 32, the largest rank of q_proj"),
        (GROUPED, (17,), "k_proj", "rank 17 is above 16, the largest rank of k_proj"),
        (Llama(**{**SIZES, "mlp_size": 8}), (9,), "up_proj", "rank 9 is above 8, the largest rank of up_proj"),
    ],
)
def test_an_update_with_a_wrong_target_or_rank_is_an_error(family, ranks, target, message):
    with pytest.raises(ValueError, match=message):
        family.check_lora(ranks, (target,))


def test_updates_of_every_linear_layer_up_to_its_rank_are_allowed():
    GROUPED.check_lora((1, 16), ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))


# A tied head


def test_a_tied_head_is_the_embeddings_and_is_stored_once(tmp_path):
    model = built(family=TIED)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    save_model(TIED, model, tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert "lm_head.weight" not in stored
    assert stored.keys() == load_stored(tmp_path, FAMILY).keys() - {"lm_head.weight"}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tie_word_embeddings"]


def load_stored(place, family):
    save_model(family, built(family=family), place / "other")
    return load_file(place / "other" / "model.safetensors")


@pytest.mark.parametrize("with_head", [False, True])
def test_a_tied_model_loads_equal_whether_or_not_its_file_holds_the_head(tmp_path, with_head):
    model = built(family=TIED)
    save_model(TIED, model, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    if with_head:
        stored = load_file(path)
        save_file({**stored, "lm_head.weight": stored["model.embed_tokens.weight"].clone()}, path, {"format": "pt"})
    loaded = TIED.load(tmp_path / "model")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("lora", [None, Lora(ranks=(2,), targets=("v_proj",), dora=True)])
def test_a_tied_head_stays_tied_in_training_and_in_checkpoints(lora, tmp_path):
    model, kept = built(family=TIED), []
    training = Training(steps=2, batch_size=4, learning_rate=1e-2)
    model, _ = train(
        model, objective("text-fonts"), training, 1, lora=lora, rank=2 if lora else None,
        checkpoint_steps=(1,), on_checkpoint=lambda step, checkpoint, record: kept.append(checkpoint),
    )  # fmt: skip
    for place, result in enumerate((model, *kept)):
        assert result.lm_head.weight is result.model.embed_tokens.weight
        save_model(TIED, result, tmp_path / str(place))
        assert "lm_head.weight" not in load_file(tmp_path / str(place) / "model.safetensors")


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 32, "layers": 2, "heads": 8, "kv_heads": 2, "tied": True},
        {"hidden_size": 96, "layers": 3, "heads": 6, "kv_heads": 6},
        {"hidden_size": 128, "layers": 6, "heads": 8, "kv_heads": 1, "tied": True},
    ],
)
def test_models_of_many_sizes_are_trained_saved_and_loaded(sizes, tmp_path):
    family = Llama(mlp_size=64, context=8, **sizes)
    model, _ = train(
        built(family=family), objective("text-fonts", context=8), Training(steps=1, batch_size=2, learning_rate=1e-3), 1
    )
    save_model(family, model, tmp_path / "model")
    loaded = family.load(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


# What it is trained and tested on


def test_windows_are_inside_one_domain_and_domains_have_equal_probability(toys):
    model = Always(0)
    objective("toy-a", "toy-b", context=20).loss(model, 1000, torch_generator(1))
    windows = model.seen[0]
    has_a, has_b = ((windows == ord(letter)).any(1) for letter in "ab")
    assert not (has_a & has_b).any()
    assert 400 < has_a.sum() < 600


def test_the_loss_is_that_of_the_byte_that_follows(toys):
    logits = torch.zeros(256)
    logits[ord("a")] = 1
    perfect = -float(torch.log_softmax(logits, 0)[ord("a")])
    followed = objective("toy-a", context=16).loss(Always(ord("a")), 200, torch_generator(1))
    assert perfect <= followed < perfect + 0.1  # the digits at the head of a document are no letters
    assert objective("toy-b", context=16).loss(Always(ord("a")), 200, torch_generator(1)) == pytest.approx(
        perfect + 1, abs=0.01
    )


def test_batches_depend_on_their_generator_alone():
    seen = []
    for seed in (1, 1, 2):
        model = Always(0)
        torch.manual_seed(len(seen))
        objective("text-fonts", "text-cpp").loss(model, 8, torch_generator(seed))
        seen.append(model.seen[0])
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("task", ["text-python", "text-fonts"])
def test_always_guessing_the_most_frequent_byte_scores_chance(task):
    result = objective(task, context=64)
    mode = int(torch.bincount(text.load(task, "train").long()).argmax())
    assert result.evaluate(Always(mode)) == pytest.approx(result.chance)
    assert result.tested_on == WINDOWS * 64


def test_chance_of_a_mixture_is_the_mean_over_its_domains(toys):
    apart = [objective(task).chance for task in ("toy-a", "toy-b")]
    assert min(apart) > 0.9
    assert objective("toy-a", "toy-b").chance == pytest.approx(sum(apart) / 2)


def test_a_model_is_tested_on_the_test_part_and_every_time_on_the_same(toys):
    model = Always(0)
    result = objective("toy-z", context=16)
    result.evaluate(model)
    result.evaluate(model)
    first, second = model.seen
    assert first.shape == (WINDOWS, 16)
    assert torch.equal(first, second)
    part = text.load("toy-z", "test").numpy().tobytes()
    assert all(bytes(window.tolist()) in part for window in first)
    assert len({bytes(window.tolist()) for window in first}) > WINDOWS / 4


def test_wrong_bytes_are_predicted_and_not_read_and_the_test_keeps_its_bytes(toys):
    clean = objective("toy-z", context=16)
    noisy = clean.with_label_noise(0.25, torch_generator("noise"))
    following = torch.arange(40_000).reshape(-1, 16) % 256
    targets = noisy._targets(following)
    changed = targets != following
    assert 0.24 < changed.float().mean() < 0.26
    assert ((targets >= 0) & (targets < 256)).all()
    assert len(torch.unique((targets - following)[changed] % 256)) == 255
    assert not torch.equal(noisy._targets(following), targets)  # drawn anew for each batch
    again = clean.with_label_noise(0.25, torch_generator("noise"))
    assert torch.equal(again._targets(following), targets)
    read = []
    for result in (clean, noisy):
        model = Always(0)
        result.loss(model, 8, torch_generator(1))
        read.append(model.seen[0])
    assert torch.equal(*read)
    assert clean._targets(following) is following
    model = built().eval()
    assert noisy.measure(model) == clean.measure(model)


def test_the_test_loss_is_the_cross_entropy_of_the_byte_that_follows(toys):
    result = objective("toy-z", context=16)
    logits = torch.zeros(256)
    logits[ord("a")] = 1
    hit, missed = (-float(torch.log_softmax(logits, 0)[ord(letter)]) for letter in "ab")
    accuracy, loss = result.measure(Always(ord("a")))
    assert loss == pytest.approx(accuracy * hit + (1 - accuracy) * missed, abs=1e-5)
    assert (result.evaluate(Always(ord("a"))), result.test_loss(Always(ord("a")))) == (accuracy, loss)


def test_different_texts_have_different_digests():
    digests = FAMILY.data_digests(["text-manual", "text-schema"])
    assert digests == {name: text.digest(name) for name in ("text-manual", "text-schema")}
    assert len(set(digests.values())) == 2


# Training


def test_full_fine_tuning_learns_a_real_domain_and_moves_every_matrix():
    model, result = built("truncated-normal"), objective("text-fonts")
    before = copy.deepcopy(model.state_dict())
    assert result.parameters() == []
    model, record = train(model, result, Training(steps=60, batch_size=16, learning_rate=3e-3), seed=1)
    assert record["metric"] == "next-byte accuracy"
    assert record["before"] < record["chance"] < record["after"]
    assert record["after"] > 0.3
    assert record["loss_last"] < record["loss_first"] - 1
    assert all(not torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_bytes_that_never_occur_keep_their_embeddings_without_weight_decay():
    for decay, kept in ((0.0, True), (0.1, False)):
        model = built()
        before = model.model.embed_tokens.weight.detach().clone()
        model, _ = train(
            model,
            objective("text-arithmetic"),
            Training(steps=3, batch_size=8, learning_rate=1e-3, weight_decay=decay),
            1,
        )
        assert torch.equal(model.model.embed_tokens.weight[128:], before[128:]) == kept


def test_lora_changes_its_targets_alone_by_an_update_of_its_rank():
    model, result = built(family=GROUPED), objective("text-fonts")
    before = copy.deepcopy(model.state_dict())
    lora = Lora(ranks=(2,), targets=("k_proj", "down_proj"))
    model, record = train(
        model, result, Training(steps=10, batch_size=8, learning_rate=5e-3), seed=1, lora=lora, rank=2
    )
    after = model.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        f"model.layers.{layer}.{part}.weight" for layer in (0, 1) for part in ("self_attn.k_proj", "mlp.down_proj")
    }
    for name in moved:
        values = torch.linalg.svdvals((after[name] - before[name]).double())
        assert values[1] > 1e-6 > values[2]
    assert (record["rank"], record["alpha"]) == (2, 4)


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_holds():
    result = []
    for noise, seed in ((1, 7), (2, 7), (3, 8)):
        model = built()
        torch.manual_seed(noise)
        model, record = train(model, objective("text-cmake"), Training(steps=4, batch_size=8, learning_rate=1e-3), seed)
        result.append((torch.cat([value.flatten() for value in model.state_dict().values()]), record))
    assert torch.equal(result[0][0], result[1][0])
    assert result[0][1] == result[1][1]
    assert not torch.equal(result[0][0], result[2][0])
