"""The parts of a machine that decide the last bits of trained weights: processor, instruction set, GPU and
its libraries."""

import os
import platform
from pathlib import Path

import torch


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the type of the processor, and the vector instructions that torch uses on it.

    Rented machines of different generations may report the same name. The result therefore names the
    processor's family and model too.

    Args:
        cpuinfo: Linux's description of the processors. If the file is absent, the platform's name is used.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    # The lines are read from the last to the first, so that the entries of the first processor remain.
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = entries.get("model name") or platform.processor() or platform.machine()
    generation = [f"{key} {entries[key]}" for key in ("cpu family", "model") if key in entries]
    return ", ".join([name, *generation, torch.backends.cpu.get_cpu_capability()])


def gpu(device: str) -> dict[str, str]:
    """Returns, under the key ``gpu``, the type of the GPU and the versions of CUDA and cuDNN; empty unless
    ``device`` is ``cuda``."""
    if device != "cuda":
        return {}
    major, minor = torch.cuda.get_device_capability()
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return {"gpu": f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}, {libraries}"}


def machine(device: str) -> dict[str, str]:
    """Returns the machine type: all properties of a machine that decide the last bits of weights trained on
    ``device``."""
    return {"processor": processor(), "device": device, **gpu(device)}


def set_deterministic(deterministic: bool) -> None:
    """Sets whether this process's GPU sums in a fixed order, as a CPU always does.

    If it is set, torch raises an error for operations that have no deterministic implementation.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads this variable when it starts
    torch.use_deterministic_algorithms(deterministic)
