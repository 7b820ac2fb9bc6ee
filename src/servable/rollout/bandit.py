"""Thompson sampling: each version gets requests in proportion to the chance that it is the best one. Pure.

W. R. Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of two
samples", Biometrika 25, 1933. Rewards that are 0 or 1 have a Beta posterior from the uniform prior; others a
normal-inverse-gamma posterior whose weak prior lies at the mean and variance of all rewards together.
"""

import math
import random
from collections.abc import Iterable, Mapping

from servable.rollout.sequential import Moments

#: Draws from the posteriors for one set of weights; the weights are good to about one point.
DRAWS = 4000
#: What every version gets at least, so that one that did badly by chance can recover.
LEAST_WEIGHT = 0.01


def weights(
    rewards: Mapping[int, Moments], seed: int, *, draws: int = DRAWS, least: float = LEAST_WEIGHT
) -> dict[int, float]:
    """Shares of the requests.

    Args:
        rewards: what callers said that answers were worth, by version.
        seed: the same one gives the same weights.
        draws: from each posterior.
        least: the smallest share of any version; at most one over their number.

    Returns:
        By version, with the sum 1.
    """
    versions = sorted(rewards)
    chance = random.Random(seed)
    best = dict.fromkeys(versions, 0)
    whole = _together(rewards.values())
    binary = all(_is_binary(each) for each in rewards.values())
    for _ in range(draws):
        drawn = {
            version: _beta(rewards[version], chance) if binary else _normal(rewards[version], whole, chance)
            for version in versions
        }
        best[max(versions, key=drawn.__getitem__)] += 1
    least = min(least, 1.0 / len(versions)) if versions else least
    rest = 1.0 - least * len(versions)
    return {version: least + rest * best[version] / draws for version in versions}


def _is_binary(moments: Moments) -> bool:
    """Whether they can all be 0 or 1: then their squares add up to the same as they do."""
    return math.isclose(moments.squares, moments.total, abs_tol=1e-9) and 0 <= moments.total <= moments.count


def _beta(moments: Moments, chance: random.Random) -> float:
    return chance.betavariate(1.0 + moments.total, 1.0 + moments.count - moments.total)


def _normal(moments: Moments, whole: Moments, chance: random.Random) -> float:
    """A draw of the mean."""
    count = moments.count
    prior = max(whole.variance, 1e-12)
    mean = (whole.mean + moments.total) / (1.0 + count)
    shape = 1.0 + count / 2.0
    spread = moments.variance * max(count - 1, 0)
    scale = prior + spread / 2.0 + count * (moments.mean - whole.mean) ** 2 / (2.0 * (1.0 + count))
    variance = scale / chance.gammavariate(shape, 1.0)
    return chance.gauss(mean, math.sqrt(variance / (1.0 + count)))


def _together(all_moments: Iterable[Moments]) -> Moments:
    total = Moments()
    for each in all_moments:
        total = Moments(total.count + each.count, total.total + each.total, total.squares + each.squares)
    return total
