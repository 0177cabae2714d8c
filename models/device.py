"""What a CUDA device is doing, asked of torch when somebody wants to know; of any other device nothing is said."""


def use(device: str) -> tuple[int | None, float | None]:
    """The bytes of its memory that this process has taken, and how busy it is (0 to 1, by all processes), as its driver last
    measured it. None where it cannot be told. `device` as a model that is loaded has it: cpu, cuda:0, ..."""
    if not device.startswith("cuda"):
        return None, None
    import torch  # here, so that who has no model imports none

    return torch.cuda.memory_reserved(device), _utilization(device)


def _utilization(device: str) -> float | None:
    import torch

    try:
        return float(torch.cuda.utilization(device)) / 100
    # NVML's binding (nvidia-ml-py) may be missing, or the driver may not say: its errors have no common root
    except Exception:
        return None
