"""A line of what `doctor` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at.
        found: what was found, with what was wanted where that differs.
        remedy: what to do; empty if nothing is wrong.
        fatal: inference would fail.
    """

    subject: str
    found: str
    remedy: str = ""
    fatal: bool = False

    def __str__(self) -> str:
        mark = "FAIL" if self.fatal else "warn" if self.remedy else "ok"
        line = f"{mark:4}  {self.subject:24}  {self.found}"
        return f"{line}\n      {'':24}  -> {self.remedy}" if self.remedy else line

    def as_dict(self) -> dict:
        return asdict(self)
