"""generate(): whole or resumable, the same bytes however it was run, and nothing of others touched."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mothr.benchmark.data import dataset
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError
from mothr.generators import generate as module
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe, resolved
from mothr.generators.recipe.topology import plan

IDS = 2 * (1 + 2 + 2)


def make(recipe: str | Path, out: Path, **options):
    """Generates in this process, which spares the seconds that a new one needs to start."""
    with ThreadPoolExecutor(1) as executor:
        return generate(
            load_recipe(str(recipe)), out, executor=options.pop("executor", executor), progress=False, **options
        )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_text) -> Path:
    """The tiny data set, made in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.toml").write_text(tiny_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(folder / "cache"))
        make(folder / "tiny.toml", folder / "data")
    return folder / "data"


def test_the_data_set_has_the_documented_layout(undisturbed, tiny):
    assert sorted(entry.name for entry in undisturbed.iterdir()) == [
        "README.md", "croissant.json", "manifest.json", "models", "recipe.toml", "truth.json", "updates.svg",
    ]  # fmt: skip
    models = sorted((undisturbed / "models").iterdir())
    assert len(models) == IDS
    for model in models:
        assert sorted(path.name for path in model.iterdir()) == ["config.json", "model.safetensors"]
    recipe = load_recipe(str(tiny))
    assert tomllib.loads((undisturbed / "recipe.toml").read_text()) == resolved(recipe)


def test_the_truth_agrees_with_the_plan(undisturbed, tiny):
    truth = dataset.open_truth(undisturbed)
    for node in plan(load_recipe(str(tiny))):
        node_truth = truth.nodes[node.id]
        assert node_truth.parents == node.parents == node.sources
        assert (node_truth.tree, node_truth.depth, node_truth.task) == (node.tree, node.depth, "+".join(node.tasks))
        assert (node_truth.relation, node_truth.subtype) == (("finetune", "full") if node.parents else (None, None))
        assert {"before", "after", "chance", "tested_on", "seed", "learning_rate"} <= node_truth.training.keys()


def test_only_weights_distinguish_the_models(undisturbed):
    configs = {(model / "config.json").read_bytes() for model in (undisturbed / "models").iterdir()}
    assert len(configs) == 1
    assert "_name_or_path" not in json.loads(configs.pop())
    problems = verify(undisturbed).problems
    assert not [problem for problem in problems if "taught nothing" not in problem]


def test_a_child_is_nearer_to_its_parent_than_to_the_other_root(undisturbed):
    truth = dataset.open_truth(undisturbed)
    checkpoints = {checkpoint.id: checkpoint for checkpoint in dataset.open_models(undisturbed).checkpoints}
    name = next(name for name, info in checkpoints[truth.graph.roots[0]].tensors.items() if info.shape == (32, 16))
    for parent, child in truth.graph.edges:
        stranger = next(root for root in truth.graph.roots if root not in truth.graph.root_of(child))
        weight = checkpoints[child].read(name)
        assert (weight - checkpoints[parent].read(name)).norm() < (weight - checkpoints[stranger].read(name)).norm()


def test_a_second_run_changes_nothing(undisturbed, tiny):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    make(tiny, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_two_worker_processes_write_the_same_bytes_as_one_thread(file_hashes, undisturbed, tiny, tmp_path):
    generate(load_recipe(str(tiny)), tmp_path / "data", workers=2, progress=False)
    assert file_hashes(tmp_path / "data") == file_hashes(undisturbed)


def test_cached_roots_have_the_same_bytes_and_a_damaged_entry_is_replaced(
    file_hashes, undisturbed, tiny, tmp_path, monkeypatch
):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    make(tiny, tmp_path / "first")
    weights = sorted((tmp_path / "cache" / "roots").rglob("model.safetensors"))
    assert len(weights) == 2
    weights[0].write_bytes(weights[0].read_bytes()[:-1])
    make(tiny, tmp_path / "second")
    assert file_hashes(tmp_path / "first") == file_hashes(tmp_path / "second") == file_hashes(undisturbed)


def start(recipe: Path, out: Path, cache: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-c",
        "from mothr.benchmark.cli.main import main; main()",
        "generate",
        str(recipe),
        "--out",
        str(out),
    ]
    environment = {**os.environ, "MOTHR_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--workers", "2"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished_nodes(out: Path) -> int:
    return len(list((out / module.STATE / "done").glob("*"))) if (out / module.STATE / "done").is_dir() else 0


@pytest.mark.parametrize("nodes", [1, 5])
def test_after_a_kill_a_second_run_gives_the_same_bytes(file_hashes, undisturbed, tiny, tmp_path, nodes):
    out, cache = tmp_path / "data", tmp_path / "cache"
    process = start(tiny, out, cache)
    while finished_nodes(out) < nodes and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / dataset.MANIFEST).exists()
    with pytest.raises(MothrError, match=r"manifest\.json: missing manifest; the data set is unfinished"):
        dataset.open_models(out)
    done = finished_nodes(out)
    assert nodes <= done < IDS
    process = start(tiny, out, cache)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert b"10 models" in stdout
    assert file_hashes(out) == file_hashes(undisturbed)


def test_workers_do_not_outlive_a_killed_parent(tiny, tmp_path):
    process = start(tiny, tmp_path / "data", tmp_path / "cache")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        process.communicate()
        pytest.skip("this system does not list a process's children under /proc")
    while finished_nodes(tmp_path / "data") < 1 and process.poll() is None:
        time.sleep(0.01)
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    limit = time.monotonic() + 30
    while any(_alive(pid) for pid in workers) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tiny, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("do not touch")
    with pytest.raises(MothrError, match=r"mine: holds other files \(thesis\.txt\); choose an empty or new folder"):
        make(tiny, out)
    assert [entry.name for entry in out.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tiny, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MothrError, match=r"out: is a file; choose another --out"):
        make(tiny, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_the_data_set_of_another_recipe_is_refused_and_left_alone(file_hashes, undisturbed, edited):
    before = file_hashes(undisturbed)
    with pytest.raises(MothrError, match=r"already holds the data set tiny v1, made from another recipe"):
        make(edited("seed = 5", "seed = 6"), undisturbed)
    assert file_hashes(undisturbed) == before


def test_an_unfinished_data_set_of_another_recipe_is_an_error(tiny, edited, tmp_path):
    out = tmp_path / "data"
    with pytest.raises(RuntimeError, match="no more"):
        make(tiny, out, executor=_Stops(3))
    assert finished_nodes(out) == 3
    with pytest.raises(MothrError, match=r"holds an unfinished data set of another recipe"):
        make(edited("seed = 5", "seed = 6"), out)
    assert finished_nodes(out) == 3


def test_a_data_set_of_another_machine_type_is_not_continued(file_hashes, undisturbed, tiny, tmp_path, monkeypatch):
    out = tmp_path / "data"
    with pytest.raises(RuntimeError, match="no more"):
        make(tiny, out, executor=_Stops(2))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("mothr.generators.train.machine.processor", lambda: "Other CPU")
        with pytest.raises(
            MothrError,
            match=r"data: was started on another machine type, .* this is .*Other CPU.* choose another --out",
        ):
            make(tiny, out)
    assert finished_nodes(out) == 2
    make(tiny, out)
    assert file_hashes(out) == file_hashes(undisturbed)


class _Stops(ThreadPoolExecutor):
    """An executor that makes so many nodes and then fails."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.count = count

    def submit(self, function, /, *arguments, **options):
        self.count -= 1
        return super().submit(function if self.count >= 0 else self.fail, *arguments, **options)

    def fail(self, *arguments):
        raise RuntimeError("no more")


def test_two_processes_cannot_generate_into_one_folder(tiny, tmp_path):
    recipe = load_recipe(str(tiny))
    digest = module.canonical_sha256(resolved(recipe))
    with (
        module._claimed(tmp_path / "data", recipe, digest, "cpu"),
        pytest.raises(MothrError, match="another process is generating into this folder"),
    ):
        make(tiny, tmp_path / "data")


def test_an_absent_gpu_is_an_error_that_names_the_remedy(tiny, tmp_path):
    if module.torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(MothrError, match=r"--device cuda: torch sees no CUDA device here; use --device cpu"):
        make(tiny, tmp_path / "data", device="cuda")
    assert not (tmp_path / "data").exists()


def test_a_full_disk_is_one_clear_error_and_the_run_can_go_on(file_hashes, undisturbed, tiny, tmp_path):
    """A limit on file sizes stands in for the disk: a write fails in the middle of a model."""
    out, cache = tmp_path / "data", tmp_path / "cache"
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); from mothr.benchmark.cli.main import main; main()"
    )
    environment = {**os.environ, "MOTHR_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, "generate", str(tiny), "--out", str(out), "--workers", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert finished_nodes(out) == 0
    make(tiny, out)
    assert file_hashes(out) == file_hashes(undisturbed)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
