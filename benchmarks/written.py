"""results/speed.md and results/speed.json (growth.* alike): the tables and raw lines of a run, and what it ran on."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from rlseq.provenance import revision

from .race import Settings

HEAD = """# Speed

Made by `{command}`.

`benchmarks/README.md` says what is measured and how peers are installed. Median (min - max) of interleaved repetitions,
each competitor in a process of its own. "x best peer" and "of limit" are ratios of medians; above 1
is faster. The limit is the same matrix products (with softmax, draw and reciprocal where inherent) and nothing around them.

| | |
| --- | --- |
{facts}
"""


def facts(settings: Settings, versions: dict[str, str], foreign: float | None) -> dict[str, str]:
    """What a reader must know of the machine and the moment."""
    commit, changed = revision()
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
             if line.startswith("model name")] if cpuinfo.is_file() else [platform.processor()]
    memory = int(meminfo.read_text().split()[1]) / 1e6 if meminfo.is_file() else 0
    return {"commit": commit + (" with changes" if changed else ""), "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": f"{names[0]}, {os.cpu_count()} cores" + (f", {memory:.0f} GB" if memory else ""),
            "system": f"{platform.system()}, Python {platform.python_version()}",
            "device and threads": f"{settings.device}, {settings.threads}",
            "CPU time of others during repetitions": "unknown" if foreign is None else f"{100 * foreign:.1f} % (median)",
            "data": "Multi30k" if settings.data else "synthetic corpus of Multi30k's lengths",
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))}


def write(folder: Path, name: str, command: str, about: dict[str, str], tables: list[str],
          lines: list[dict[str, object]]) -> None:
    """NAME.md and NAME.json, whole; the plots of growth that lie beside them are shown below the tables."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in about.items())
    head = HEAD.format(command=command, facts=rows)
    shown = "".join(f"\n![{path.stem}]({path.name})\n" for path in sorted(folder.glob("growth-*.svg")))
    body = "\n".join(f"## {text}" for text in tables)
    (folder / f"{name}.md").write_text(f"{head}\n{body}{shown}")
    whole = {"about": about, "command": command, "lines": lines}
    (folder / f"{name}.json").write_text("{\n" + ",\n".join(
        f'"{key}": ' + ("[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if key == "lines" else json.dumps(value))
        for key, value in whole.items()) + "\n}\n")
