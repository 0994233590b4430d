"""The explorer of sampled groups: what the page's script is given, as text that no string of others can break out of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from .report_groups import Entry

MOST = 6_000_000                               # characters of groups in one page


def as_data(value: object) -> str:
    """JSON for a <script> element: no sign of it ends the element, opens a comment or turns the text's direction."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class Shelf:
    """Sampled groups for the page, as long as it stays light."""

    def __init__(self) -> None:
        self.left = MOST

    def explorer(self, entries: Sequence[Entry], anchor: str) -> str:
        """One explorer for a table's entries, the first seed of each; empty where none has groups."""
        runs, missing = [], 0
        for entry in entries:
            run = next((one for one in entry.results if one.groups), None)
            if entry.stage == "before" or run is None:
                continue
            told = {"name": f"{entry.label} ({entry.policy}), seed {run.seed}", "groups": run.groups}
            size = len(as_data(told))
            if size > self.left:
                missing += 1
                continue
            self.left -= size
            runs.append(told)
        if not runs:
            return ""
        note = f'<p class="soft">{missing} of these systems are left out: the page would grow too large.</p>' if missing else ""
        return (f'<details class="explorer" data-from="{escape(anchor)}-groups"><summary>Explorer of sampled groups</summary>'
                '<p class="soft">The same problems for every system, the first of the test split. Drawn answers share their '
                "random numbers before and after fine-tuning. Choose an answer to see its map.</p>"
                f"<noscript><p>The explorer needs JavaScript; all tables work without.</p></noscript>{note}"
                f'<div class="stage"></div></details><script type="application/json" id="{escape(anchor)}-groups">'
                f"{as_data(runs)}</script>")
