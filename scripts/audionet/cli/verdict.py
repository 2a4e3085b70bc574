"""Text of the verdict of an evaluation."""

from __future__ import annotations

from typing import Any


def format_verdict(verdict: dict[str, Any]) -> str:
    """Format the verdict in report.json as text: its sentences, and the advice, one to a line."""
    parts = (("Verdict: ", verdict["sentences"]), ("Advice:  ", verdict["advice"]))
    return "\n".join(
        f"{title if number == 0 else ' ' * len(title)}{text}"
        for title, texts in parts
        for number, text in enumerate(texts)
    )
