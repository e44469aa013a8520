"""How many tokens of prompts a step takes, so that running answers go on without long waits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddlemix_qwenvl.engine.sequence import Sequence

_FEW = 8  # tokens of prompts in a step, at least
_LONGEST_WAIT = 2.25  # usual steps that one step may take, a quarter less than three, for steps vary
_MEASURED_EVERY = 32  # steps
_BEGIN_TOGETHER = 8  # answers: with fewer a step takes nearly as long, since all weights are read


def spared_from(running: Iterable[Sequence]) -> float:
    """Prompts that were asked for at this time or later spare the running answers.

    Those from before the first of these began do not, while there are few: requests that come together begin one right after the
    other, and go on together.
    """
    answers = [each for each in running if each.remaining == 1]
    if len(answers) >= _BEGIN_TOGETHER:
        return -math.inf
    return min((each.clock.first_token or math.inf for each in answers), default=math.inf)


class Pace:
    """Watches how long steps take, and has some of them go without prompts to know what is usual: now and then, and when there are
    more answers or fewer.

    Args:
        most: tokens of prompts in a step beside which no answer waits.
    """

    def __init__(self, most: int):
        self.most = most
        self._usual, self._answers = 0.0, 0  # seconds of a step with so many answers
        self._budget = 4.0 * _FEW
        self._unmeasured = _MEASURED_EVERY

    def budget(self, answers: int) -> int:
        """Tokens of prompts for the next step, beside so many answers that wait for a token."""
        if not answers:
            return self.most
        is_due = self._unmeasured and answers != self._answers  # not twice without a prompt between
        return 0 if is_due or self._unmeasured >= _MEASURED_EVERY else min(self.most, int(self._budget))

    def budget_beside(self, running: list[Sequence], waiting: list[Sequence]) -> int:
        """The same beside the running answers, and what these are not spared."""
        spared = spared_from(running)
        unsparing = sum(
            each.remaining for each in [*running, *waiting] if each.remaining > 1 and each.clock.added < spared
        )
        return max(self.budget(sum(each.remaining == 1 for each in running)), min(self.most, unsparing))

    @property
    def spare(self) -> float:
        """Seconds that a step beside answers may take for other things than tokens."""
        return (_LONGEST_WAIT - 1) * self._usual

    def took(self, seconds: float, answers: int, prompt_tokens: int) -> None:
        """A step has taken so long."""
        if not answers:
            return
        if not prompt_tokens:
            is_known = self._usual and answers == self._answers
            self._usual = 0.5 * (self._usual + seconds) if is_known else seconds
            self._answers, self._unmeasured = answers, 0
            return
        self._unmeasured += 1
        change = _LONGEST_WAIT * self._usual / seconds
        if change < 1 or prompt_tokens >= int(self._budget):
            self._budget = max(_FEW, self._budget * min(1.5, max(0.5, change)))
