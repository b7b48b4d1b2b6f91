"""Shares of a count: their interval, and whether two differ by more than chance. Knows no torch."""

import math


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share; Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953, equation 1."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    total = 1 + z * z / trials
    return max(0.0, (middle - half) / total), min(1.0, (middle + half) / total)


def error_of_difference(first: float, second: float, count: int) -> float:
    """1.96 standard errors of the difference of two shares, each of `count` pictures."""
    return 1.96 * math.sqrt((first * (1 - first) + second * (1 - second)) / count)


def differ(first: float, second: float, count: int) -> bool:
    """Whether two shares are further apart than chance."""
    return abs(first - second) > error_of_difference(first, second, count)
