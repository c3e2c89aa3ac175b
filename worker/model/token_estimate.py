"""An estimate of the tokens that an abandoned job did not generate.

If its request sets a limit, the job is assumed to reach it. If not, the job is assumed to be as long as the answers of
its model that this process has seen to their end. Without any, the estimate is 0. Pure.
"""

from collections.abc import Mapping
from typing import Any

from shared.model.bounds import CHOICES, ESTIMATED_MODELS

# The mean forgets: a model's latest answers count most.
_WEIGHT_LEAST = 0.02


class SavedTokenEstimate:
    """Learn the lengths of a process's completed answers, by model."""

    def __init__(self) -> None:
        # The number of answers, and the mean tokens of a choice; the model that answered last comes last.
        self._lengths: dict[str, tuple[int, float]] = {}

    def record(self, request: Mapping[str, Any], tokens: int) -> None:
        """Record that this request was answered to its end, in so many tokens."""
        model = _model(request)
        count, mean = self._lengths.pop(model, (0, 0.0))
        weight = max(1 / (count + 1), _WEIGHT_LEAST)
        self._lengths[model] = count + 1, mean + (tokens / _choices(request) - mean) * weight
        if len(self._lengths) > ESTIMATED_MODELS:
            del self._lengths[next(iter(self._lengths))]

    def of(self, request: Mapping[str, Any], generated: int) -> int:
        """Estimate the tokens that are no longer generated, after `generated` ones; at least 0."""
        return max(self.expected(request) - generated, 0)

    def expected(self, request: Mapping[str, Any]) -> int:
        """Estimate the tokens of the whole answer: the request's limit, or the learned length; 0 without either."""
        limit = next(filter(_is_limit, map(request.get, ("max_completion_tokens", "max_tokens"))), None)
        _, mean = self._lengths.get(_model(request), (0, 0.0))
        return round((mean if limit is None else limit) * _choices(request))


def _model(request: Mapping[str, Any]) -> str:
    return str(request.get("model", ""))


def _choices(request: Mapping[str, Any]) -> int:
    n = request.get("n")
    return n if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= CHOICES else 1


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
