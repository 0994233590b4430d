"""Where a number came from: commit, hardware, time, options."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from .paths import ROOT


def flat(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested options -> {"plan.finetune.lr": 1e-4, ...}."""
    found: dict[str, object] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def revision() -> tuple[str, bool]:
    """The commit of this checkout and whether files that matter were changed; ("unknown", False) outside of one."""
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "--short=7", "HEAD"), bool(git("status", "--porcelain", "--", "rlseq", "tasks", "conf"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def hardware(device: torch.device) -> str:
    """Threads and cores, processor, and the GPU in use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{torch.get_num_threads()} of {os.cpu_count()} cores, {model}{gpu}"
