"""The names that a module with kinds of jobs imports: `from worker.kinds import JobContext, kind`.

A gateway imports such a module, too, for the models of its inputs. Not here: the names' meanings.
"""

from shared.model.errors import PermanentFailure, RetryLater
from shared.model.own_kinds import JobContext, kind

__all__ = ["JobContext", "PermanentFailure", "RetryLater", "kind"]
