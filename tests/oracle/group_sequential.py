"""Group sequential designs by dense quadrature. In: looks, bounds or a spending function. Out: bounds, power, inflation.

Independent of the library: both sides are kept (no folding), 28 nodes per standard deviation, scipy's tails, Brent's method.
`check_published_tables` compares with constants printed in Jennison and Turnbull (2000) before anything else is believed.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfc, ndtr, ndtri

_RULE = np.polynomial.legendre.leggauss(40)


def _upper(z):
    return 0.5 * erfc(np.asarray(z) / np.sqrt(2.0))


def spent(spending, phi, t, alpha):
    t = min(t, 1.0)
    if spending == "obf":
        return 2.0 * float(_upper(-ndtri(alpha / 2.0) / np.sqrt(t)))
    if spending == "pocock":
        return alpha * np.log1p((np.e - 1.0) * t)
    if spending == "power":
        return alpha * t**phi
    return alpha * (np.expm1(-phi * t) / np.expm1(-phi) if phi != 0 else t)


def spent_between(spending, phi, start, end, alpha):
    """The increment, where it can be had without a difference of like numbers."""
    end = min(end, 1.0)
    if start == 0.0 or spending == "obf":
        return spent(spending, phi, end, alpha) - (spent(spending, phi, start, alpha) if start > 0.0 else 0.0)
    if spending == "pocock":
        return alpha * np.log1p((np.e - 1.0) * (end - start) / (1.0 + (np.e - 1.0) * start))
    if spending == "power":
        return alpha * start**phi * np.expm1(phi * np.log1p((end - start) / start))
    if phi == 0:
        return alpha * (end - start)
    return alpha * np.exp(-phi * start) * np.expm1(-phi * (end - start)) / np.expm1(-phi)


class Walk:
    """Mass of the paths that still run, on the Brownian scale, drift per unit of information included."""

    def __init__(self, drift=0.0):
        self.drift, self.time = drift, 0.0
        self.nodes, self.mass = np.array([0.0]), np.array([1.0])

    def above(self, time, bound):
        """Probability to be above `bound` at the next look."""
        step = time - self.time
        return float(np.sum(self.mass * _upper((bound - self.nodes - self.drift * step) / np.sqrt(step))))

    def below(self, time, bound):
        step = time - self.time
        return float(np.sum(self.mass * ndtr((bound - self.nodes - self.drift * step) / np.sqrt(step))))

    def advance(self, time, low, high, next_time):
        step = time - self.time
        spread = np.sqrt(step)
        smooth = min(spread, np.sqrt(max(next_time - time, 1e-12)))
        low, high = max(low, self.drift * time - 12.0 * np.sqrt(time)), min(high, self.drift * time + 12.0 * np.sqrt(time))
        panels = max(2, int(np.ceil((high - low) / smooth * 0.7)))
        edges = np.linspace(low, high, panels + 1)
        half = np.diff(edges) / 2.0
        nodes = (edges[:-1, None] + half[:, None] * (1.0 + _RULE[0][None, :])).ravel()
        weights = (half[:, None] * _RULE[1][None, :]).ravel()
        mass = np.zeros_like(nodes)
        for first in range(0, len(nodes), 2000):
            block = slice(first, first + 2000)
            distance = (nodes[block, None] - self.nodes[None, :] - self.drift * step) / spread
            mass[block] = np.exp(-0.5 * distance * distance) @ self.mass
        mass *= weights / (spread * np.sqrt(2.0 * np.pi))
        self.nodes, self.mass, self.time = nodes, mass, time


def bounds(t, alpha, spending, phi, sides, is_split=False):
    times = [min(time, 1.0) for time in t]
    side_alpha = alpha if sides == 1 else alpha / 2.0
    is_symmetric = sides == 2 and not is_split
    walk, found = Walk(), []
    for look, time in enumerate(times):
        wanted = spent_between(spending, phi, times[look - 1] if look else 0.0, time, side_alpha)
        root = np.sqrt(time)
        gap = lambda z: np.log(max(walk.above(time, z * root), 1e-320)) - np.log(wanted)
        bound = brentq(gap, -3.0, 38.0, xtol=1e-14, rtol=1e-15)
        found.append(bound)
        if look + 1 < len(times):
            walk.advance(time, -bound * root if is_symmetric else -np.inf, bound * root, times[look + 1])
    return found


def power(t, z_bounds, sides, drift):
    times = [min(time, 1.0) for time in t]
    walk, crossed = Walk(drift), 0.0
    for look, (time, bound) in enumerate(zip(times, z_bounds)):
        high = bound * np.sqrt(time)
        crossed += walk.above(time, high)
        if sides == 2:
            crossed += walk.below(time, -high)
        if look + 1 < len(times):
            walk.advance(time, -high if sides == 2 else -np.inf, high, times[look + 1])
    return crossed


def drift_for(t, z_bounds, sides, wanted):
    return brentq(lambda drift: power(t, z_bounds, sides, drift) - wanted, 0.0, 30.0, xtol=1e-14, rtol=1e-15)


def inflation(t, z_bounds, sides, alpha, wanted):
    fixed = -ndtri(alpha if sides == 1 else alpha / 2.0) + ndtri(wanted)
    return (drift_for(t, z_bounds, sides, wanted) / fixed) ** 2


def check_published_tables():
    """Jennison and Turnbull 2000, tables 2.1 to 2.4: two-sided, alpha 0.05, equal looks; constants and sample sizes over a fixed design's."""
    pocock = {2: (2.178, 1.110), 3: (2.289, 1.166), 4: (2.361, 1.202), 5: (2.413, 1.229)}
    obrien_fleming = {2: (1.977, 1.008), 3: (2.004, 1.017), 4: (2.024, 1.024), 5: (2.040, 1.028)}
    for looks in pocock:
        t = [(look + 1) / looks for look in range(looks)]
        for table, shape in ((pocock, 0.0), (obrien_fleming, -0.5)):
            constant, factor = table[looks]
            unit = [time**shape for time in t]
            exact = brentq(lambda c: power(t, [c * u for u in unit], 2, 0.0) - 0.05, 1.5, 3.5)
            assert abs(exact - constant) <= 6e-4, (looks, exact, constant)
            found = inflation(t, [exact * u for u in unit], 2, 0.05, 0.8)
            assert abs(found - factor) <= 1e-3, (looks, found, factor)
