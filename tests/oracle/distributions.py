"""Tails and quantiles to 50 digits. In: binary64 numbers, taken as exact. Out: mpmath numbers.

Nothing here shares a formula with the library: Student's and the noncentral tail are integrated numerically, where the
library expands them.
"""

from mpmath import mp, mpf

mp.dps = 50


def gauss_legendre(low, high, function, pieces=24):
    """A composite rule; the integrands here are analytic, so this converges far past 40 digits."""
    nodes, weights = _rule()
    low, high = mpf(low), mpf(high)
    width = (high - low) / pieces
    total = mpf(0)
    for piece in range(pieces):
        middle = low + width * (piece + mpf(1) / 2)
        for node, weight in zip(nodes, weights):
            total += weight * function(middle + width / 2 * node)
    return total * width / 2


_cached = []


def _rule(degree=30):
    """Nodes and weights of Gauss and Legendre by Newton's method."""
    if not _cached:
        nodes, weights = [], []
        for place in range(1, degree + 1):
            x = mp.cos(mp.pi * (place - mpf(1) / 4) / (degree + mpf(1) / 2))
            for _ in range(12):
                previous, value = mpf(1), x
                for order in range(2, degree + 1):
                    previous, value = value, ((2 * order - 1) * x * value - (order - 1) * previous) / order
                slope = degree * (x * value - previous) / (x * x - 1)
                x -= value / slope
            nodes.append(x)
            weights.append(2 / ((1 - x * x) * slope * slope))
        _cached.extend([nodes, weights])
    return _cached


def norm_sf(z):
    return mp.erfc(mpf(z) / mp.sqrt(2)) / 2


def norm_pdf(z):
    return mp.exp(-mpf(z) ** 2 / 2) / mp.sqrt(2 * mp.pi)


def norm_isf(p):
    """The z with P(Z > z) = p, by Newton's method on the logarithm."""
    p = mpf(p)
    if p > mpf(1) / 2:
        return -norm_isf(1 - p)
    z = mp.sqrt(max(mpf(0), -2 * mp.log(2 * p)))
    for _ in range(200):
        tail = norm_sf(z)
        step = (mp.log(tail) - mp.log(p)) * tail / norm_pdf(z)
        z += step
        if abs(step) < mpf(10) ** -45:
            break
    return z


def t_sf(t, df):
    """P(T > t): the integral of cosh^-df over theta, t = sqrt(df) sinh(theta), normalised by gamma functions."""
    t, df = mpf(t), mpf(df)
    if t < 0:
        return 1 - t_sf(-t, df)
    start = mp.asinh(t / mp.sqrt(df))
    base = mp.log(mp.cosh(start))
    fall = lambda distance: df * (mp.log(mp.cosh(start + distance)) - base)
    reach = mpf(1) / 10**6
    while fall(reach) < 125:
        reach *= mpf(1.3)
    pieces = 40
    integral = gauss_legendre(0, reach, lambda distance: mp.exp(-fall(distance)), pieces)
    whole = mp.sqrt(mp.pi) * mp.exp(mp.loggamma(df / 2) - mp.loggamma((df + 1) / 2)) / 2
    return integral / whole / 2 * mp.exp(-df * base)


def t_pdf(t, df):
    t, df = mpf(t), mpf(df)
    ln = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    return mp.exp(ln - (df + 1) / 2 * mp.log1p(t * t / df))


def t_isf(p, df):
    p, df = mpf(p), mpf(df)
    if p == mpf(1) / 2:
        return mpf(0)
    if p > mpf(1) / 2:
        return -t_isf(1 - p, df)
    from scipy.stats import t as student

    start = float(student.isf(float(p), float(df)))
    t = mpf(start) if start < 1e300 else norm_isf(p)
    for _ in range(60):
        tail = t_sf(t, df)
        # In ln t, where the tail of few degrees of freedom is straight.
        step = (mp.log(tail) - mp.log(p)) * tail / t_pdf(t, df) / t if t > 0 else (tail - p) / t_pdf(t, df)
        t = t * mp.exp(step) if t > 0 else t + step
        if abs(step) < mpf(10) ** -40:
            break
    return t


def chi2_sf(x, df):
    return mp.gammainc(mpf(df) / 2, mpf(x) / 2, mp.inf, regularized=True)


def noncentral_t_sf(t, df, shift):
    """P(T > t) of the noncentral t: the normal tail averaged over the chi distribution."""
    t, df, shift = mpf(t), mpf(df), mpf(shift)
    ln_scale = df / 2 * mp.log(df / 2) - mp.loggamma(df / 2) + mp.log(2)
    # s = chi / sqrt(df) has density exp(ln_scale) s^(df-1) e^(-df s^2/2), narrow around 1.
    width = 1 / mp.sqrt(2 * df)
    low, high = max(mpf(0), 1 - 18 * width), 1 + 18 * width + 3 / df
    density = lambda s: mp.exp(ln_scale + (df - 1) * mp.log(s) - df * s * s / 2)
    return gauss_legendre(low, high, lambda s: density(s) * norm_sf(t * s - shift), 60)
