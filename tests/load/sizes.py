"""The sizes of a run: full, quick, and the tiny one of the tests. Pure.

Not here: what is measured (scenarios.py, bursts.py).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Size:
    """How much is done. Every load is bounded by it."""

    rounds: int = 3
    window_s: float = 5.0
    # Fewer streams have shorter ones: else the first tokens would be too few for a percentile.
    levels: tuple[tuple[int, int], ...] = ((1, 5), (16, 50), (64, 100), (200, 250))
    unpaced_tokens: int = 1000
    unpaced_each: int = 3
    short_each: int = 50
    samples: int = 200
    crowd: int = 500
    readers: int = 10_000
    reader_jobs: int = 100
    logs: tuple[int, ...] = (1_000, 10_000)
    saturating: int = 500
    flood: int = 5_000
    dialects: int = 50
    scaling: tuple[int, ...] = (50, 100, 200, 400, 800)
    scaling_tokens: int = 250
    neighbour_turns: int = 4
    bursts: tuple[int, ...] = (64, 200)
    lane: tuple[int, ...] = (64, 128, 256, 512, 1_024)
    lane_tokens: int = 64


FULL: Final = Size()
QUICK: Final = Size(
    rounds=1,
    window_s=3.0,
    unpaced_each=2,
    short_each=25,
    samples=100,
    readers=1_000,
    reader_jobs=10,
    flood=1_000,
    neighbour_turns=2,
    lane=(64, 256, 1_024),
)
TINY: Final = Size(
    rounds=1,
    window_s=0.2,
    levels=((2, 5),),
    unpaced_tokens=50,
    unpaced_each=1,
    short_each=1,
    samples=3,
    crowd=3,
    readers=4,
    reader_jobs=2,
    logs=(20,),
    saturating=3,
    flood=5,
    dialects=2,
    scaling=(2,),
    scaling_tokens=5,
    neighbour_turns=1,
    bursts=(2,),
    lane=(2,),
    lane_tokens=5,
)
"""Enough to see that the harness counts right; its figures say nothing."""
