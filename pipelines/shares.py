"""Shares of a count: their interval, and whether two differ by more than chance. Knows no torch."""

import math


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share; Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953. All of it for none."""
    from scipy.stats import binomtest  # a third of a second, which the page's start need not wait for

    if not trials:
        return 0.0, 1.0
    interval = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def error_of_difference(first: float, second: float, count: int) -> float:
    """1.96 standard errors of the difference of two shares, each of `count` pictures."""
    return 1.96 * math.sqrt((first * (1 - first) + second * (1 - second)) / count)


def differ(first: float, second: float, count: int) -> bool:
    """Whether two shares are further apart than chance."""
    return abs(first - second) > error_of_difference(first, second, count)
