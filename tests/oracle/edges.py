"""Writes ../data/statistics_edges.json: truth at the edges of the statistics, in the format of statistics.json.

In: nothing; the parameters stand below and come from a fixed seed. Out: cases with expected values from 50-digit arithmetic
(group sequential designs: dense quadrature, checked against published tables). Needs mpmath, numpy and scipy:

    python3 tests/oracle/edges.py
"""

import json
import os
import random
from fractions import Fraction
from itertools import combinations

import group_sequential as gst
from distributions import (
    chi2_sf, gauss_legendre, mp, mpf, noncentral_t_sf, norm_isf, norm_pdf, norm_sf, t_isf, t_sf,
)

CASES = []
RANDOM = random.Random(20261122)
ARMS = ("n1", "mean1", "var1", "n2", "mean2", "var2")


def number(value):
    """An expected number: what binary64 cannot hold is not asked for."""
    value = mpf(value)
    if value != 0 and (abs(value) > mpf("1.7e308")):
        return None
    return float(value)


def case(function, inputs, expected, tolerance=1e-13, note=None):
    # A logarithm of what is one but for the 50th digit is zero.
    is_nothing = lambda name, value: name.startswith("log") and abs(value) < mpf("1e-30")
    expected = {name: 0.0 if is_nothing(name, value) else value for name, value in expected.items() if value is not None}
    expected = {
        name: [number(v) for v in value] if isinstance(value, list) else value if isinstance(value, (bool, str)) else number(value)
        for name, value in expected.items()
    }
    # A probability below the normal numbers has fewer digits; its logarithm has all.
    expected = {
        name: value
        for name, value in expected.items()
        if value is not None and not (isinstance(value, float) and 0 < abs(value) < 1e-307)
        and not (name.startswith("p") and value == 0.0)
    }
    entry = {"id": f"edge-{len(CASES) + 1:04}", "function": function, "inputs": inputs, "expected": expected, "tolerance": tolerance}
    if note:
        entry["note"] = note
    CASES.append(entry)


def exact(*values):
    return [mpf(value) for value in values]


def log10_two_sided(sf):
    return mp.log10(2 * sf)


# --- two means ---------------------------------------------------------------------------------------------------------


def end(effect, half):
    """An end of an interval; one that almost cancels has no more digits than its quantile and is not asked for."""
    return effect + half if abs(effect + half) > abs(half) / 100 else None


def two_sided(effect, se, df, alpha):
    statistic = effect / se
    sf = (lambda x: norm_sf(x)) if df is None else (lambda x: t_sf(x, df))
    quantile = norm_isf(mpf(alpha) / 2) if df is None else t_isf(mpf(alpha) / 2, df)
    near = sf(abs(statistic))
    greater, less = (near, 1 - near) if statistic >= 0 else (1 - near, near)
    return {
        "effect": effect, "se": se, ("z" if df is None else "t"): statistic, "p_two_sided": 2 * near, "log10_p": mp.log10(2 * near),
        "p_greater": greater, "p_less": less, "ci_low": end(effect, -quantile * se), "ci_high": end(effect, quantile * se),
    } | ({} if df is None else {"df": df})


def satterthwaite(a, b, df1, df2):
    return (a + b) ** 2 / (a**2 / df1 + b**2 / df2)


def mean_tests(arms, alpha):
    inputs = dict(zip(ARMS, arms)) | {"alpha": alpha}
    n1, m1, v1, n2, m2, v2 = exact(*arms)
    effect = m2 - m1
    a, b = v1 / n1, v2 / n2
    case("welch_t", inputs, two_sided(effect, mp.sqrt(a + b), satterthwaite(a, b, n1 - 1, n2 - 1), alpha))
    pooled = ((n1 - 1) * v1 + (n2 - 1) * v2) / (n1 + n2 - 2)
    case("student_t", inputs, two_sided(effect, mp.sqrt(pooled * (1 / n1 + 1 / n2)), n1 + n2 - 2, alpha))
    case("z_test_unpooled", inputs, two_sided(effect, mp.sqrt(a + b), None, alpha))


def lifts(arms, alpha):
    inputs = dict(zip(ARMS, arms)) | {"alpha": alpha}
    n1, m1, v1, n2, m2, v2 = exact(*arms)
    a, b = v1 / n1, v2 / n2
    df = satterthwaite(a, b, n1 - 1, n2 - 1)
    lift = (m2 - m1) / abs(m1)
    se = mp.sqrt(b / m1**2 + a * m2**2 / m1**4)
    absolute = abs(m2 - m1) / mp.sqrt(a + b)
    for function, degrees in (("relative_lift_delta_t", df), ("relative_lift_delta_z", None)):
        test = two_sided(lift, se, degrees, alpha)
        wanted = {name: test[name] for name in ("se", "p_two_sided", "log10_p", "ci_low", "ci_high")} | {"lift": lift}
        wanted["log10_p_absolute"] = mp.log10(2 * (norm_sf(absolute) if degrees is None else t_sf(absolute, degrees)))
        case(function, inputs, wanted)
    q = norm_isf(mpf(alpha) / 2)
    g = q * q * a / m1**2
    if g < 1:
        ratio = m2 / m1
        half = q / abs(m1) * mp.sqrt(b + ratio**2 * a - g * b)
        low, high = (ratio - half) / (1 - g) - 1, (ratio + half) / (1 - g) - 1
        if m1 < 0:
            low, high = -high, -low
        # Near g = 1 the ends are as ill-conditioned as 1 - g.
        case("relative_lift_fieller_z", inputs, {"lift": lift, "g": g, "bounded": True, "ci_low": low, "ci_high": high}, 1e-13 if g < 0.99 else 1e-11)
    else:
        case("relative_lift_fieller_z", inputs, {"lift": lift, "g": g, "bounded": False, "status": "unbounded"})
    if m1 > 0 and m2 > 0:
        pa, pb = a / m1**2, b / m2**2
        df_log, se_log = satterthwaite(pa, pb, n1 - 1, n2 - 1), mp.sqrt(pa + pb)
        logarithm, quantile = mp.log(m2 / m1), t_isf(mpf(alpha) / 2, df_log)
        near = t_sf(abs(logarithm / se_log), df_log)
        case("relative_lift_log_t", inputs, {
            "lift": lift, "se_log": se_log, "df": df_log, "p_two_sided": 2 * near, "log10_p": mp.log10(2 * near),
            "ci_low": mp.expm1(logarithm - quantile * se_log), "ci_high": mp.expm1(logarithm + quantile * se_log),
        })


def margins(arms, alpha, margin, direction):
    inputs = dict(zip(ARMS, arms)) | {"nim_relative": margin, "direction": direction, "alpha": alpha}
    n1, m1, v1, n2, m2, v2 = exact(*arms)
    sign = 1 if direction == "increase_good" else -1
    nim = mpf(margin)
    for function, slope in (
        ("non_inferiority_fixed_margin", mpf(1)),
        ("non_inferiority_linear_margin", 1 - sign * nim * mp.sign(m1)),
    ):
        a, b = v1 / n1 * slope**2, v2 / n2
        df, se = satterthwaite(a, b, n1 - 1, n2 - 1), mp.sqrt(a + b)
        statistic = (sign * (m2 - m1) + nim * abs(m1)) / se
        p = t_sf(statistic, df)
        case(function, inputs, {
            "margin_abs": nim * abs(m1), "effect": m2 - m1, "se": se, "df": df, "t": statistic, "p_one_sided": p,
            "log10_p": mp.log10(p) if p < mpf("0.999") else None,
            "bound": sign * (sign * (m2 - m1) - t_isf(mpf(alpha), df) * se), "non_inferior": bool(p < mpf(alpha)),
        })


SAMPLES = [
    # n = 2, one arm huge, one arm tiny, far tails, equal arms, means at 1e9, 1e-150 and 1e150, fractional degrees of freedom.
    (2, 1.0, 1.0, 2, 2.0, 1.0), (2, 5.0, 1e-8, 2, 5.5, 3.0), (2, 1.0, 4.0, 10**9, 1.5, 1e-3), (3, 1e3, 1e-6, 3, 1.001e3, 1e-6),
    (100, 10.0, 2.0, 100, 10.0, 2.0), (1000, 10.0, 4.0, 1000, 13.5, 4.0), (10**6, 10.0, 4.0, 10**6, 10.08, 4.0),
    (10**6, 10.0, 4.0, 10**6, 10.2, 4.0), (10**10, 1.0, 1.0, 10**10, 1.1, 1.0), (40, 1e9, 1.0, 50, 1e9 + 2.5, 2.0),
    (500, 1e-150, 1e-300, 400, 1.2e-150, 2e-300), (500, 1e150, 1e300, 400, 1.4e150, 2e300), (7, -3.25, 0.5, 1234567, -3.0, 9.0),
    (25, 20.0, 0.0, 30, 20.5, 1.5), (25, 20.0, 3.5, 30, 18.0, 0.0), (50, 1.0, 400.0, 60, 1.3, 500.0), (30, -5.0, 1.0, 30, -6.0, 1.0),
    (12, 0.001, 1e-9, 15, 0.0012, 4e-9), (3, 1.0, 1.0, 3, 1e5, 1.0), (2, 1.0, 1e-20, 2, 1e12, 1e-20),
]
LEVELS = [0.05, 1e-10, 0.5, 0.999, 1e-4]

for place, arms in enumerate(SAMPLES):
    mean_tests(arms, LEVELS[place % 5])
    lifts(arms, LEVELS[(place + 1) % 5])
    margins(arms, LEVELS[(place + 2) % 4], [0.0, 0.01, 0.3, 1.0][place % 4], ["increase_good", "decrease_good"][place % 2])
for _ in range(40):
    n1, n2 = (int(10 ** RANDOM.uniform(0.4, 7)) + 1 for _ in range(2))
    mean = RANDOM.uniform(-1, 3) * 10 ** RANDOM.uniform(-3, 3)
    spread = abs(mean) * 10 ** RANDOM.uniform(-1, 1)
    arms = (n1, mean, spread**2, n2, mean + spread * RANDOM.gauss(0, 3) * (1 / n1 + 1 / n2) ** 0.5, (spread * RANDOM.uniform(0.2, 2)) ** 2)
    alpha = round(10 ** RANDOM.uniform(-8, -0.4), 9)
    mean_tests(arms, alpha)
    lifts(arms, alpha)
    margins(arms, alpha, round(RANDOM.uniform(0, 0.2), 3), RANDOM.choice(["increase_good", "decrease_good"]))


# --- distributions -----------------------------------------------------------------------------------------------------

for z in [0.0, 1e-300, 1e-9, 0.3, 1.0, 2.5, 5.0, 8.3, 26.0, 37.5, 38.5, 100.0, 1e4, 1e8, -0.5, -3.0, -9.0, -40.0]:
    sf = norm_sf(z)
    case("norm_sf", {"z": z}, {"sf": sf, "log10_sf": mp.log10(sf) if z > -8 else None})
for p in [0.5, 0.4999999, 0.3, 0.05, 0.01, 1e-5, 1e-16, 1e-100, 1e-300, 0.9, 0.999999, 1 - 2.0**-50]:
    case("norm_isf", {"p": p}, {"x": norm_isf(p)} if p != 0.5 else {"x": 0.0})
for df in [0.3, 1.0, 1.5, 2.0, 3.7, 10.0, 29.5, 300.0, 12345.6, 1e6, 1e9]:
    for t in [1e-8, 0.5, 1.0, 3.0, 12.0, 40.0, 1e3, 1e8]:
        sf = t_sf(t, df)
        case("t_sf", {"t": t, "df": df}, {"sf": sf, "log10_sf": mp.log10(sf)})
    for p in [0.4, 0.1, 0.025, 1e-4, 1e-10, 1e-50, 0.8]:
        x = t_isf(p, df)
        if abs(x) < mpf("1e300"):
            case("t_isf", {"p": p, "df": df}, {"x": x})


# --- shares ------------------------------------------------------------------------------------------------------------


def shares(x1, n1, x2, n2, alpha):
    inputs = {"x1": x1, "n1": n1, "x2": x2, "n2": n2, "alpha": alpha}
    X1, N1, X2, N2 = exact(x1, n1, x2, n2)
    p1, p2, pooled = X1 / N1, X2 / N2, (X1 + X2) / (N1 + N2)
    q = norm_isf(mpf(alpha) / 2)
    unpooled = mp.sqrt(p1 * (1 - p1) / N1 + p2 * (1 - p2) / N2)
    score = mp.sqrt(pooled * (1 - pooled) * (1 / N1 + 1 / N2))
    for function, se in (("prop_z_pooled", score), ("prop_z_unpooled", unpooled)):
        if n1 < 2 or n2 < 2:
            case(function, inputs, {"status": "insufficient_data", "effect": p2 - p1})
            continue
        if se == 0:
            case(function, inputs, {"status": "zero_variance", "effect": p2 - p1})
            continue
        test = two_sided(p2 - p1, se, None, alpha)
        # The interval belongs to the unpooled error, whatever the test.
        case(function, inputs, {name: test[name] for name in ("effect", "z", "p_two_sided", "log10_p")})
    for function, lost in (("prop_welch_ml_var", 0), ("prop_welch_unbiased_var", 1)):
        if n1 < 2 or n2 < 2:
            continue
        a, b = p1 * (1 - p1) / (N1 - lost), p2 * (1 - p2) / (N2 - lost)
        if a + b > 0:
            case(function, inputs, two_sided(p2 - p1, mp.sqrt(a + b), satterthwaite(a, b, N1 - 1, N2 - 1), alpha))

    def wilson(x, n):
        middle, root = x + q * q / 2, q * mp.sqrt(q * q / 4 + x * (n - x) / n)
        return (middle - root) / (n + q * q), (middle + root) / (n + q * q)

    (l1, u1), (l2, u2) = wilson(X1, N1), wilson(X2, N2)
    effect = p2 - p1
    case("newcombe", inputs, {
        "effect": effect, "control_low": l1 if x1 else 0.0, "control_high": u1, "treatment_low": l2 if x2 else 0.0, "treatment_high": u2,
        "ci_low": effect - mp.sqrt((p2 - l2) ** 2 + (u1 - p1) ** 2), "ci_high": effect + mp.sqrt((u2 - p2) ** 2 + (p1 - l1) ** 2),
    })


# The first eight are the examples of Newcombe 1998, table II.
for counts in [
    (48, 80, 56, 70), (3, 10, 9, 10), (2, 7, 6, 7), (0, 56, 5, 56), (0, 29, 0, 56), (0, 20, 0, 10), (0, 10, 10, 10), (0, 10, 1, 1),
    (1, 10**6, 12, 10**6), (5 * 10**8, 10**9, 5 * 10**8 + 10**5, 10**9), (999999, 10**6, 10**6, 10**6), (1, 2, 1, 2), (1, 3, 2, 3),
    (10, 1000, 900, 1000), (123456, 9876543, 123456, 9876543), (10**6, 2 * 10**6, 10**6 + 10**5, 2 * 10**6),
]:
    shares(*counts, alpha=LEVELS[len(CASES) % 5] if counts[1] > 100 else 0.05)


def fisher(table):
    (a, b), (c, d) = table
    row, column, total = a + b, a + c, a + b + c + d
    low, high = max(0, column - (c + d)), min(row, column)
    weight, weights = 1, {}
    # Integers: the hypergeometric weights over that of the lowest table.
    current = Fraction(1)
    for count in range(low, high + 1):
        weights[count] = current
        current = current * (row - count) * (column - count) / ((count + 1) * (c + d - column + count + 1))
    whole, observed = sum(weights.values()), weights[a]
    share = lambda chosen: mpf(chosen.numerator) / mpf(chosen.denominator)
    p = share(sum(w for w in weights.values() if w <= observed) / whole)
    case("fisher_exact", {"table": table}, {
        "p_two_sided": p, "log10_p": mp.log10(p) if p < mpf("0.999") else None,
        "p_less": share(sum(w for count, w in weights.items() if count >= a) / whole),
        "p_greater": share(sum(w for count, w in weights.items() if count <= a) / whole),
    }, 1e-12)


for table in [
    [[3, 1], [1, 3]], [[0, 5], [5, 0]], [[0, 10], [0, 12]], [[7, 0], [0, 9]], [[1, 9], [11, 3]], [[10, 2], [3, 15]], [[120, 880], [90, 910]],
    [[5, 995], [60, 940]], [[400, 600], [100, 900]], [[1, 0], [0, 1]], [[30, 70], [30, 70]], [[2, 400], [1, 3]],
]:
    fisher(table)


# --- sample ratio ------------------------------------------------------------------------------------------------------


def sample_ratio(observed, weights):
    total, weight = mpf(sum(observed)), sum(exact(*weights))
    pairs = [(mpf(o), total * mpf(w) / weight) for o, w in zip(observed, weights) if w > 0]
    chi2 = sum((o - e) ** 2 / e for o, e in pairs)
    p = chi2_sf(chi2, len(pairs) - 1)
    case("srm_chi2", {"observed": observed, "weights": weights}, {"chi2": chi2, "df": len(pairs) - 1, "p": p, "log10_p": mp.log10(p) if chi2 > 0 else None})
    for k in (1.0, 100.0, 1e6):
        log_bf = -(mp.loggamma(k + total) - mp.loggamma(k))
        for o, w in zip(observed, weights):
            share = mpf(w) / weight
            if w > 0:
                log_bf += mp.loggamma(k * share + o) - mp.loggamma(k * share) - o * mp.log(share)
        case("srm_sequential_dirichlet", {"observed": observed, "weights": weights, "k": k}, {
            "log_bf": log_bf, "p": min(mpf(1), mp.exp(-log_bf)), "log10_p": -max(mpf(0), log_bf) / mp.log(10),
        }, 1e-12)


for observed, weights in [
    ([50, 50], [0.5, 0.5]), ([0, 10], [0.5, 0.5]), ([1, 0], [0.5, 0.5]), ([10**9, 10**9 + 10**6], [1.0, 1.0]), ([600, 400, 500], [1.0, 1.0, 1.0]),
    ([9990, 10], [0.999, 0.001]), ([100, 0, 110], [0.5, 0.0, 0.5]), ([10**5, 10**5 + 600], [0.5, 0.5]), ([3, 4, 5, 6, 7, 8], [1.0] * 6),
    ([10**6, 10**6 + 5 * 10**4], [0.5, 0.5]), ([2 * 10**12, 2 * 10**12 + 10**7], [0.5, 0.5]), ([7, 1], [1e-3, 1.0]),
]:
    sample_ratio(observed, weights)


def exact_sample_ratio(observed, weights):
    total, shares_ = sum(observed), [Fraction(w) / sum(Fraction(w) for w in weights) for w in weights]

    def probability(split):
        value, rest = Fraction(1), total
        for count, share in zip(split, shares_):
            for place in range(count):
                value = value * (rest - place) / (place + 1) * share
            rest -= count
        return value

    def splits(rest, arms):
        if arms == 1:
            yield (rest,)
            return
        for count in range(rest + 1):
            for others in splits(rest - count, arms - 1):
                yield (count, *others)

    seen = probability(observed)
    p = sum(q for q in (probability(split) for split in splits(total, len(observed))) if q <= seen)
    case("srm_exact", {"observed": observed, "weights": weights}, {"p": mpf(p.numerator) / p.denominator, "is_exact": True}, 1e-12)


for observed, weights in [([3, 9], [0.5, 0.5]), ([0, 12], [0.5, 0.5]), ([40, 60], [0.5, 0.5]), ([5, 9, 3], [0.25, 0.5, 0.25]), ([10, 90], [0.125, 0.875]), ([200, 280], [0.5, 0.5])]:
    exact_sample_ratio(observed, weights)


# --- looking more than once ----------------------------------------------------------------------------------------------


def sequences(effect, se, n, alpha, n_star):
    d, s, N, a, star = exact(effect, se, n, alpha, n_star)
    inputs = {"effect": effect, "se": se, "n": n, "alpha": alpha, "n_star": n_star}
    rho = mp.sqrt((-2 * mp.log(a) + mp.log(-2 * mp.log(a) + 1)) / star)
    grown = N * rho**2 + 1
    half = s * mp.sqrt(N) * mp.sqrt(2 * grown / (N * rho) ** 2 * mp.log(mp.sqrt(grown) / a))
    log_e = rho**2 * (d**2 * N / s**2) / (2 * grown) - mp.log(grown) / 2
    case("asymp_cs_two_sided", inputs, {
        "rho": rho, "halfwidth": half, "ci_low": d - half, "ci_high": d + half, "log_e": log_e, "p": min(mpf(1), mp.exp(-log_e)),
        "log10_p": -max(mpf(0), log_e) / mp.log(10),
    })
    if alpha < 0.5:
        rho = mp.sqrt((-2 * mp.log(2 * a) + mp.log(-2 * mp.log(2 * a) + 1)) / star)
        grown = N * rho**2 + 1
        half = s * mp.sqrt(N) * mp.sqrt(2 * grown / (N * rho) ** 2 * mp.log1p(mp.sqrt(grown) / (2 * a)))

        def p(effect):
            exponent = (effect / s) ** 2 * (grown - 1) / (2 * grown)
            return mpf(1) if effect <= 0 else min(mpf(1), mp.sqrt(grown) / 2 / mp.expm1(exponent))

        case("asymp_cs_one_sided", inputs, {"rho": rho, "halfwidth": half, "lower": d - half, "upper": d + half, "p_greater": p(d), "p_less": p(-d)})
    tau2 = se * se * 2.0 ** RANDOM.randrange(-20, 20)
    T, V = mpf(tau2), s * s
    log_lambda = (mp.log(V / (V + T)) + T * d**2 / (V * (V + T))) / 2
    half = mp.sqrt(V * (V + T) / T * (-2 * mp.log(a) + mp.log((V + T) / V)))
    case("msprt_normal", {"effect": effect, "se": se, "tau2": tau2, "alpha": alpha}, {
        "log_lambda": log_lambda, "p": min(mpf(1), mp.exp(-log_lambda)), "log10_p": -max(mpf(0), log_lambda) / mp.log(10),
        "halfwidth": half, "ci_low": d - half, "ci_high": d + half,
    })


for effect, se, n, alpha, n_star in [
    (0.0, 0.1, 10, 0.05, 5000), (1e-6, 1.0, 2, 0.05, 1), (3.0, 0.01, 10**7, 0.05, 10**6), (40.0, 1.0, 100, 1e-10, 100), (-0.3, 0.1, 1000, 0.49, 500),
    (0.02, 0.004, 10**10, 0.01, 5000), (1e-140, 1e-141, 400, 0.05, 400), (2e150, 1e149, 400, 0.05, 1e9), (0.5, 0.25, 1, 0.9, 1),
]:
    sequences(effect, se, n, alpha, n_star)


DESIGNS = [
    # Even, uneven, one look, nearly coinciding looks, an overrun, an early first look, many looks.
    ([1.0], 0.05, "obf", None), ([0.5, 1.0], 0.05, "pocock", None), ([0.05, 0.9, 1.0], 0.05, "power", 1.0), ([0.01, 0.02, 1.0], 0.05, "hsd", 4.0),
    ([0.3, 0.301, 1.0], 0.05, "hsd", -4.0), ([0.5, 0.9999, 1.0], 0.05, "obf", None), ([0.4, 0.8, 1.2], 0.05, "power", 2.0), ([0.25, 0.5, 0.75, 1.0], 1e-10, "pocock", None),
    ([0.25, 0.5, 0.75, 1.0], 1e-10, "obf", None), ([0.2, 0.4, 0.6, 0.8, 1.0], 0.5, "pocock", None), ([0.2, 0.4, 0.6, 0.8, 1.0], 0.4, "obf", None),
    ([0.1, 0.15, 0.5, 0.55, 1.0], 0.01, "hsd", 0.0), ([0.1, 0.15, 0.5, 0.55, 1.0], 0.01, "hsd", 1.0), ([0.1, 0.15, 0.5, 0.55, 1.0], 0.01, "hsd", -30.0),
    ([0.2, 0.6, 1.0], 0.05, "hsd", 30.0), ([0.2, 0.6, 1.0], 0.05, "power", 12.0), ([0.2, 0.6, 1.0], 0.05, "power", 0.1), ([0.2, 0.7], 0.05, "obf", None),
    ([round((i + 1) / 28, 6) for i in range(28)], 0.05, "obf", None), ([round((i + 1) / 28, 6) for i in range(28)], 0.05, "pocock", None),
]

gst.check_published_tables()
for t, alpha, spending, phi in DESIGNS:
    for sides, is_split in ((1, False), (2, False), (2, True)):
        if len(t) == 28 and is_split:
            continue
        inputs = {"t": t, "alpha": alpha, "spending": spending, "phi": phi, "sides": sides}
        z = gst.bounds(t, alpha, spending, phi, sides, is_split)
        case("gst_bounds_split" if is_split else "gst_bounds_joint", inputs, {"zb": [float(b) for b in z]}, 1e-10)
        if is_split:
            continue
        for drift in (0.0, 1.0, 2.8, 6.0, -2.0):
            case("gst_power", inputs | {"drift": drift}, {"power": gst.power(t, z, sides, drift)}, 1e-9)
        for wanted in (0.8, 0.95):
            if wanted > alpha and max(t) >= 1.0:
                factor = gst.inflation(t, z, sides, alpha, wanted)
                case("gst_inflation", inputs | {"power": wanted}, {"inflation": factor}, 1e-8)


# --- Bayes -----------------------------------------------------------------------------------------------------------------


def bayes_normal(effect, se, prior_mean, prior_var, proper, alpha):
    d, s, pm, pv = exact(effect, se, prior_mean, prior_var)
    precision = 1 / s**2 + (1 / pv if proper else 0)
    mean, sd = (d / s**2 + (pm / pv if proper else 0)) / precision, 1 / mp.sqrt(precision)
    z, half = mean / sd, norm_isf(mpf(alpha) / 2) / mp.sqrt(precision)
    case("bayes_normal_effect", {"effect": effect, "se": se, "prior_mean": prior_mean, "prior_var": prior_var, "proper": proper, "alpha": alpha}, {
        "post_mean": mean, "post_sd": sd, "chance_to_win": norm_sf(-z), "ci_low": mean - half, "ci_high": mean + half,
        "risk_choose_control": sd * norm_pdf(z) + mean * norm_sf(-z), "risk_choose_treatment": sd * norm_pdf(z) - mean * norm_sf(z),
    })


for parameters in [
    (0.0, 1.0, 0.0, 1.0, False, 0.05), (5.0, 1.0, 0.0, 1e6, True, 1e-10), (-5.0, 1.0, 0.0, 1e-6, True, 0.5), (37.0, 1.0, 0.0, 1.0, False, 0.05),
    (-37.0, 1.0, 0.0, 1.0, False, 0.05), (7.99, 1.0, 0.0, 1.0, False, 0.05), (8.01, 1.0, 0.0, 1.0, False, 0.05), (1e-9, 1e-10, 1e-9, 1e-18, True, 0.05),
    (0.3, 0.1, -0.3, 0.01, True, 0.05), (3e100, 1e100, 1e99, 1e200, True, 0.01), (0.02, 0.3, 5.0, 1e-4, True, 0.05), (1.0, 1e-3, 0.0, 0.09, True, 0.05),
]:
    bayes_normal(*parameters)


def bayes_beta(x1, n1, x2, n2, a, b):
    """Miller's finite sum for P(treatment > control), a prior of whole numbers."""
    inputs = {"x1": x1, "n1": n1, "x2": x2, "n2": n2, "prior_a": a, "prior_b": b}
    a1, b1, a2, b2 = a + x1, b + n1 - x1, a + x2, b + n2 - x2
    ln_beta = lambda p, q: mp.loggamma(p) + mp.loggamma(q) - mp.loggamma(p + q)

    def wins(a1, b1, a2, b2):
        base = ln_beta(a1, b1)
        return sum(mp.exp(ln_beta(a1 + i, b1 + b2) - mp.log(b2 + i) - ln_beta(1 + i, b2) - base) for i in range(a2))

    m1, m2 = mpf(a1) / (a1 + b1), mpf(a2) / (a2 + b2)
    gain = m2 * wins(a1, b1, a2 + 1, b2) - m1 * wins(a1 + 1, b1, a2, b2)
    loss = m1 * wins(a2, b2, a1 + 1, b1) - m2 * wins(a2 + 1, b2, a1, b1)
    case("bayes_beta_binomial", inputs, {
        "chance_to_win": wins(a1, b1, a2, b2), "expected_loss_choose_control": gain, "expected_loss_choose_treatment": loss,
        "post_mean1": m1, "post_mean2": m2,
    }, 1e-11)


mp.dps = 80
for counts in [
    (0, 0, 0, 0, 1, 1), (0, 10, 10, 10, 1, 1), (0, 1000, 3, 1000, 1, 1), (500, 1000, 500, 1000, 1, 1), (100, 1000, 250, 1000, 1, 1),
    (1000, 2000, 1100, 2000, 2, 5), (1, 3, 2000, 3000, 1, 1), (40, 50, 3, 50, 1, 1), (50, 100000, 90, 100000, 1, 1),
]:
    bayes_beta(*counts)
mp.dps = 50


# --- plans -------------------------------------------------------------------------------------------------------------------


def plans(var1, var2, n1, n2, effect, alpha, power, ratio, rho):
    v1, v2, N1, N2, d, r = exact(var1, var2, n1, n2, effect, ratio)
    qa, qb = norm_isf(mpf(alpha) / 2), norm_isf(1 - mpf(power))
    shift = d / mp.sqrt(v1 / N1 + v2 / N2)
    sizes = {"var1": var1, "var2": var2}
    case("power_z_two_sided", sizes | {"n1": n1, "n2": n2, "effect": effect, "alpha": alpha}, {"power": norm_sf(qa - shift) + norm_sf(qa + shift)})
    n = (qa + qb) ** 2 * (v1 + v2 / r) / d**2
    case("sample_size_z", sizes | {"effect": effect, "alpha": alpha, "power": power, "ratio": ratio}, {"n_control": n})
    case("sample_size_z_cuped", sizes | {"effect": effect, "alpha": alpha, "power": power, "ratio": ratio, "rho": rho}, {"n_control": n * (1 - mpf(rho) ** 2)})
    mde = (qa + qb) * mp.sqrt(v1 / N1 + v2 / N2)
    case("mde_z", sizes | {"n1": n1, "n2": n2, "alpha": alpha, "power": power}, {"mde": mde})
    case("mde_z_cuped", sizes | {"n1": n1, "n2": n2, "alpha": alpha, "power": power, "rho": rho}, {"mde": mde * mp.sqrt(1 - mpf(rho) ** 2)})


for parameters in [
    (1.0, 1.0, 100, 100, 1e-9, 0.05, 0.8, 1.0, 0.0), (4.0, 9.0, 2, 3, 0.5, 1e-10, 0.999999, 0.1, 0.999), (1e-200, 3e-200, 50, 70, 1e-101, 0.05, 0.8, 2.0, -0.5),
    (17.0, 23.0, 10**9, 10**8, 0.001, 0.01, 0.9, 9.0, 0.1), (1.0, 1.0, 10, 10, 30.0, 0.05, 0.5, 1.0, 0.7), (1.0, 2.0, 400, 300, -0.2, 0.5, 0.6, 1.5, 0.3),
    (2.0, 2.0, 1000, 1000, 0.0625, 1e-4, 0.05, 1.0, 0.999999),
]:
    plans(*parameters)


def power_t(d, n1, n2, alpha):
    df = mpf(n1 + n2 - 2)
    q, shift = t_isf(mpf(alpha) / 2, df), abs(mpf(d)) * mp.sqrt(mpf(n1) * n2 / (n1 + n2))
    case("power_t_two_sided", {"effect_size_d": d, "n1": n1, "n2": n2, "alpha": alpha}, {
        "power": noncentral_t_sf(q, df, shift) + noncentral_t_sf(q, df, -shift),
    }, 1e-11)


for parameters in [(0.5, 10, 12, 0.05), (1e-6, 50, 50, 0.05), (0.0, 30, 30, 0.01), (2.0, 5, 6, 0.05), (0.02, 40000, 50000, 0.05), (0.3, 100, 5000, 1e-6), (5.0, 40, 40, 0.05), (-0.4, 64, 64, 0.1)]:
    power_t(*parameters)


# --- families, segments, days ----------------------------------------------------------------------------------------------


def holm(p):
    order, m, largest, adjusted = sorted(range(len(p)), key=lambda i: p[i]), len(p), mpf(0), [None] * len(p)
    for place, i in enumerate(order):
        largest = max(largest, min(mpf(1), (m - place) * mpf(p[i])))
        adjusted[i] = largest
    return adjusted


def step_up(p, factor):
    order, m, smallest, adjusted = sorted(range(len(p)), key=lambda i: p[i]), len(p), mpf(1), [None] * len(p)
    for rank in range(m, 0, -1):
        i = order[rank - 1]
        smallest = min(smallest, factor(m, rank) * mpf(p[i]))
        adjusted[i] = smallest
    return adjusted


for p in [[0.04], [0.0, 1.0], [1e-320, 0.5], [0.01] * 7, [0.05, 0.04, 0.03, 0.02, 0.01], [1e-300, 0.9, 1e-200, 0.2], [RANDOM.random() ** 4 for _ in range(60)]]:
    harmonic = sum(mpf(1) / i for i in range(1, len(p) + 1))
    case("adjust_bonferroni", {"p": p}, {"adjusted": [min(mpf(1), len(p) * mpf(v)) for v in p]})
    case("adjust_holm", {"p": p}, {"adjusted": holm(p)})
    case("adjust_hochberg", {"p": p}, {"adjusted": step_up(p, lambda m, rank: m - rank + 1)})
    case("adjust_bh", {"p": p}, {"adjusted": step_up(p, lambda m, rank: mpf(m) / rank)})
    case("adjust_by", {"p": p}, {"adjusted": step_up(p, lambda m, rank: harmonic * m / rank)})


def gatekeeping(p, gates, alpha):
    """Straight from the rule: Holm in each family, the next opens only when every hypothesis before was rejected."""
    adjusted, rejected, is_open, before = [None] * len(p), [0.0] * len(p), True, mpf(0)
    for gate in sorted(set(gates)):
        members = [i for i in range(len(p)) if gates[i] == gate]
        family = holm([p[i] for i in members])
        for i, value in zip(members, family):
            adjusted[i] = max(before, value)
            rejected[i] = float(is_open and value <= mpf(alpha))
        is_open = is_open and all(rejected[i] for i in members)
        before = max([before, *family])
    case("gatekeeping", {"p": p, "gates": gates, "alpha": alpha}, {"adjusted": adjusted, "rejected": rejected})


for p, gates in [
    ([0.01, 0.04, 0.001], [0, 1, 2]), ([0.06, 0.001, 0.002], [0, 1, 1]), ([0.02, 0.024, 0.2, 0.001], [0, 0, 1, 2]), ([0.001, 0.03, 0.01, 0.02], [3, 1, 1, 3]),
    ([0.05, 0.05], [0, 1]), ([0.9], [0]), ([0.001, 0.002, 0.003, 0.04, 0.01, 0.5], [2, 0, 1, 1, 0, 2]),
]:
    gatekeeping(p, gates, 0.05)


def segments(effects, ses):
    d, s = exact(*effects), exact(*ses)
    w = [1 / x**2 for x in s]
    pooled = sum(a * b for a, b in zip(w, d)) / sum(w)
    q, df = sum(a * (b - pooled) ** 2 for a, b in zip(w, d)), len(d) - 1
    p = chi2_sf(q, df)
    excess = max(mpf(0), q - df)
    tau2 = excess / (sum(w) - sum(x**2 for x in w) / sum(w))
    case("segment_heterogeneity_q", {"effects": effects, "ses": ses}, {
        "pooled": pooled, "pooled_se": 1 / mp.sqrt(sum(w)), "q": q, "df": df, "p": p, "log10_p": mp.log10(p) if p < mpf("0.999") else None,
        "i2": excess / q if q else 0.0, "tau2": tau2, "shrunken": [pooled + (a - pooled) * tau2 / (tau2 + b**2) for a, b in zip(d, s)],
    })


for effects, ses in [
    ([0.1, 0.2], [0.05, 0.06]), ([1.0, 1.0, 1.0], [0.5, 0.25, 0.125]), ([1.0, -1.0, 0.5], [0.01, 0.01, 0.01]), ([1e6, 1e6 + 1.0], [0.5, 0.5]),
    ([0.3, 0.1, -0.2, 0.05, 0.4, 0.15], [1e-3, 2.0, 0.3, 0.02, 0.1, 5.0]), ([3e-9, 1e-9], [1e-9, 2e-9]),
]:
    segments(effects, ses)


def trend(days, effects, ses, alpha):
    x, d, s = exact(*days), exact(*effects), exact(*ses)
    w = [1 / v**2 for v in s]
    mx, md = sum(a * b for a, b in zip(w, x)) / sum(w), sum(a * b for a, b in zip(w, d)) / sum(w)
    square = sum(a * (b - mx) ** 2 for a, b in zip(w, x))
    slope = sum(a * (b - mx) * (c - md) for a, b, c in zip(w, x, d)) / square
    test = two_sided(slope, 1 / mp.sqrt(square), None, alpha)
    case("novelty_trend", {"days": days, "effects": effects, "ses": ses, "alpha": alpha}, {
        "slope": slope, "intercept": md - slope * mx, **{name: test[name] for name in ("se", "z", "p_two_sided", "log10_p", "ci_low", "ci_high")},
    })


for days, effects, ses in [
    ([0, 1, 2], [0.5, 0.4, 0.2], [0.1, 0.1, 0.1]), (list(range(14)), [round(0.3 * 0.8**day + 0.01 * ((day * 7) % 5), 4) for day in range(14)], [0.02 + 0.003 * day for day in range(14)]),
    ([20000, 20001, 20005, 20007], [1.0, 1.0, 1.25, 0.5], [0.3, 0.1, 0.2, 0.4]), ([0, 1, 2, 3], [9.0, 6.0, 3.0, 0.0], [1e-3, 2e-3, 1e-3, 1e-3]),
]:
    trend(days, effects, ses, 0.05)


def interaction(cells, alpha):
    values = {name: exact(*cell) for name, cell in cells.items()}
    effect = (values["tt"][1] - values["tc"][1]) - (values["ct"][1] - values["cc"][1])
    se = mp.sqrt(sum(v / n for n, _, v in values.values()))
    test = two_sided(effect, se, None, 0.05)
    inputs = {"cells": {name: dict(zip(("n", "mean", "var"), cell)) for name, cell in cells.items()}}
    case("interaction_2x2", inputs, {name: test[name] for name in ("effect", "se", "z", "p_two_sided", "log10_p", "ci_low", "ci_high")})


interaction({"cc": (100, 1.0, 2.0), "ct": (110, 1.5, 2.0), "tc": (90, 1.25, 2.5), "tt": (95, 1.75, 3.0)}, 0.05)
interaction({"cc": (10**6, 1e9, 1.0), "ct": (10**6, 1e9 + 1.0, 1.0), "tc": (10**6, 1e9 + 0.5, 1.0), "tt": (10**6, 1e9 + 1.75, 1.0)}, 0.05)
interaction({"cc": (2, 0.0, 1.0), "ct": (2, 1.0, 0.0), "tc": (3, 0.0, 0.0), "tt": (2, 5.0, 1e-12)}, 0.05)


def dependence(table):
    rows, columns = [mpf(sum(row)) for row in table], [mpf(sum(column)) for column in zip(*table)]
    total, chi2 = sum(rows), mpf(0)
    for row, row_sum in zip(table, rows):
        for observed, column_sum in zip(row, columns):
            if row_sum and column_sum:
                expected = row_sum * column_sum / total
                chi2 += (observed - expected) ** 2 / expected
    df = (sum(1 for r in rows if r) - 1) * (sum(1 for c in columns if c) - 1)
    p = chi2_sf(chi2, df)
    case("assignment_dependence", {"table": table}, {"chi2": chi2, "df": df, "p": p, "log10_p": mp.log10(p) if chi2 > 0 else None})


for table in [[[50, 50], [50, 50]], [[5000, 5100], [4900, 5050]], [[10, 20, 30], [30, 20, 10]], [[10, 0, 5], [7, 0, 9]], [[10**6, 10**6 + 9000], [10**6, 10**6]]]:
    dependence(table)


# --- raw values ------------------------------------------------------------------------------------------------------------


def type_7(values, share):
    """Hyndman and Fan's type 7 of the decimal share."""
    ordered = sorted(exact(*values))
    position = mpf(share) * (len(ordered) - 1)
    # A share such as 0.9 means nine tenths, not its binary neighbour.
    if abs(position - mp.nint(position)) < mpf("1e-12"):
        position = mp.nint(position)
    below = int(mp.floor(position))
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def variance(values):
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1)


def quantiles(values, nu, clusters=None):
    n, share = len(values), mpf(nu)
    half = norm_isf(mpf("0.025")) * mp.sqrt(share * (1 - share) / n)
    estimate, low, high = type_7(values, nu), type_7(values, max(mpf(0), share - half)), type_7(values, min(mpf(1), share + half))
    unit_variance = (n - 1) * ((high - low) / (2 * norm_isf(mpf("0.025")))) ** 2
    inputs = {"values": values, "nu": nu, "clusters": clusters or []}
    if clusters:
        names = sorted(set(clusters))
        below = [mpf(sum(1 for v, c in zip(values, clusters) if c == name and mpf(v) <= estimate)) for name in names]
        sizes = [mpf(sum(1 for c in clusters if c == name)) for name in names]
        k, ms, mn = len(names), sum(below) / len(names), sum(sizes) / len(names)
        ratio = ms / mn
        spread = sum((s - ratio * m) ** 2 for s, m in zip(below, sizes)) / (k - 1)
        unit_variance *= spread / mn**2 / k / (share * (1 - share) / n)
    too_small = half >= min(share, 1 - share)
    case("quantile_estimate", inputs, {
        "n": n, "quantile": estimate, "q_lower": low, "q_upper": high, "unit_variance": unit_variance, "status": "insufficient_data" if too_small else "ok",
    }, 1e-12)
    return estimate, unit_variance / n, too_small


def quantile_test(x1, x2, nu, alpha, clusters1=None, clusters2=None):
    q1, v1, small1 = quantiles(x1, nu, clusters1)
    q2, v2, small2 = quantiles(x2, nu, clusters2)
    if not (small1 or small2):
        test = two_sided(q2 - q1, mp.sqrt(v1 + v2), None, alpha)
        inputs = {"x1": x1, "x2": x2, "nu": nu, "alpha": alpha, "clusters1": clusters1 or [], "clusters2": clusters2 or []}
        case("quantile_test", inputs, {name: test[name] for name in ("effect", "se", "z", "p_two_sided", "log10_p", "ci_low", "ci_high")}, 1e-12)


def drawn(n, digits=3):
    return [round(RANDOM.lognormvariate(1.0, 1.0), digits) for _ in range(n)]


for nu, n in [(0.5, 41), (0.9, 120), (0.25, 60), (0.99, 50), (0.75, 200)]:
    quantile_test(drawn(n), drawn(n + 7), nu, 0.05)
    quantile_test(drawn(n), drawn(n), nu, 0.05, [i % (n // 4) for i in range(n)], [(i * i) % (n // 3) for i in range(n)])


def permutation(x1, x2):
    every, n1 = [Fraction(str(v)) for v in x1 + x2], len(x1)
    total = sum(every)
    distance = lambda chosen: abs(sum(chosen) * len(every) - total * n1)
    observed = distance(every[:n1])
    counts = [distance(choice) >= observed for choice in combinations(every, n1)]
    case("permutation_exact_mean_diff", {"x1": x1, "x2": x2}, {"p_two_sided": mpf(sum(counts)) / len(counts), "n_perm": len(counts), "n_extreme": sum(counts)})


for x1, x2 in [([0.1], [0.2]), ([1.0, 1.0], [1.0, 1.0, 1.0]), ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]), (drawn(5, 1), drawn(7, 1)), ([1e9, 1e9 + 1], [1e9 + 2, 1e9 + 3]), ([5, 6, 7, 8], [1, 2])]:
    permutation(x1, x2)


def mann_whitney(x1, x2, continuity):
    every = sorted(x1 + x2)
    rank = {v: mpf(sum(i + 1 for i, w in enumerate(every) if w == v)) / every.count(v) for v in set(every)}
    n1, n2, N = len(x1), len(x2), len(every)
    u2 = sum(rank[v] for v in x2) - mpf(n2) * (n2 + 1) / 2
    ties = sum(mpf(every.count(v)) ** 3 - every.count(v) for v in set(every))
    sigma2 = mpf(n1) * n2 / 12 * ((N + 1) - ties / (mpf(N) * (N - 1)))
    z = max(mpf(0), abs(u2 - mpf(n1) * n2 / 2) - (mpf(1) / 2 if continuity else 0)) / mp.sqrt(sigma2)
    p = 2 * norm_sf(z)
    case("mann_whitney_u", {"x1": x1, "x2": x2, "continuity": continuity}, {"u2": u2, "z_abs": z, "p_two_sided": min(mpf(1), p), "prob_superiority": u2 / (n1 * n2)})


for x1, x2 in [([1, 2, 3], [4, 5, 6]), ([1, 1, 1, 2], [1, 1, 2, 2]), ([5.5], [5.5, 6.0]), (drawn(40), drawn(60)), ([1] * 50 + [2], [1] * 3 + [2] * 60)]:
    for continuity in (True, False):
        mann_whitney(x1, x2, continuity)


def winsorized(x, q):
    cap = type_7(x, q)
    mean, var = variance([min(mpf(v), cap) for v in x])
    case("winsorize_upper", {"x": x, "q": q}, {"cap": cap, "mean": mean, "var": var, "n_capped": sum(1 for v in x if mpf(v) > cap)})


for x, q in [(drawn(51), 0.9), (drawn(51), 1.0), (drawn(51), 0.0), ([1.0, 1.0], 0.5), ([1e9, 1e9 + 1, 1e9 + 5], 0.75), (drawn(100), 0.999)]:
    winsorized(x, q)


# --- covariates --------------------------------------------------------------------------------------------------------------


def product(a, b):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    return sum((x - ma) * (y - mb) for x, y in zip(a, b))


def cuped(control, treatment, alpha, tolerance):
    inputs = {"control": control, "treatment": treatment, "alpha": alpha}
    (y1, x1), (y2, x2) = ([exact(*arm[name]) for name in ("y", "x")] for arm in (control, treatment))
    n1, n2 = len(y1), len(y2)
    m1, m2 = sum(y1) / n1, sum(y2) / n2
    centre = (sum(x1) + sum(x2)) / (n1 + n2)
    for rule in ("pooled", "within"):
        if rule == "pooled":
            theta = product(x1 + x2, y1 + y2) / product(x1 + x2, x1 + x2)
        else:
            theta = (product(x1, y1) + product(x2, y2)) / (product(x1, x1) + product(x2, x2))
        a1, a2 = ([y - theta * (x - centre) for x, y in zip(*arm)] for arm in ((x1, y1), (x2, y2)))
        (mean1, v1), (mean2, v2) = variance(a1), variance(a2)
        df = satterthwaite(v1 / n1, v2 / n2, n1 - 1, n2 - 1)
        case(f"cuped_single_{rule}_theta", inputs, two_sided(mean2 - mean1, mp.sqrt(v1 / n1 + v2 / n2), df, alpha) | {
            "theta": theta, "adj_mean1": mean1, "adj_mean2": mean2, "adj_var1": v1, "adj_var2": v2,
        }, tolerance)
        # L = (mT - theta xT - mC + theta xC) / |mC|; its derivatives by the control's two means are exact.
        effect, size = mean2 - mean1, abs(m1)
        by_mean = -(m1 + effect) / m1
        control_part = sum((by_mean * (y - m1) + theta * (x - sum(x1) / n1)) ** 2 for x, y in zip(x1, y1)) / (n1 - 1) / n1
        se = mp.sqrt(control_part + v2 / n2) / size
        name = "cuped_rel_exact_gradient" + ("" if rule == "pooled" else "_within_theta")
        case(name, inputs, {"lift": effect / size, "se": se}, tolerance)


def correlated(n, slope, noise, mean=10.0):
    x = [round(RANDOM.gauss(mean, 2.0), 4) for _ in range(n)]
    return {"y": [round(mean + slope * v + RANDOM.gauss(0.0, noise), 4) for v in x], "x": x}


for control, treatment, alpha, tolerance in [
    (correlated(30, 0.8, 1.0), correlated(25, 0.8, 1.0), 0.05, 1e-13), (correlated(3, 0.5, 1.0), correlated(3, 0.5, 1.0), 0.05, 1e-12),
    (correlated(40, 0.0, 1.0), correlated(30, 0.0, 1.0), 0.01, 1e-12), (correlated(20, 1.0, 0.01), correlated(20, 1.0, 0.01), 0.05, 1e-11),
    (correlated(20, 2.0, 1.0, 1e6), correlated(20, 2.0, 1.0, 1e6), 0.05, 1e-11),
]:
    cuped(control, treatment, alpha, tolerance)


def stratified(strata):
    cells = [exact(*(stratum[name] for name in ARMS)) for stratum in strata]
    total = sum(c[0] + c[3] for c in cells)
    weights = [(c[0] + c[3]) / total for c in cells]
    effects = [c[4] - c[1] for c in cells]
    effect = sum(w * d for w, d in zip(weights, effects))
    fixed = sum(w**2 * (c[2] / c[0] + c[5] / c[3]) for w, c in zip(weights, cells))
    spread = sum(w * (d - effect) ** 2 for w, d in zip(weights, effects)) / total
    for function, var in (("post_strat_fixed_weights", fixed), ("post_strat_random_weights", fixed + spread)):
        test = two_sided(effect, mp.sqrt(var), None, 0.05)
        case(function, {"strata": strata}, {name: test[name] for name in ("effect", "se", "z", "p_two_sided", "log10_p", "ci_low", "ci_high")})


stratified([dict(zip(ARMS, (2, 1.0, 1.0, 2, 2.0, 1.0)))])
stratified([dict(zip(ARMS, (100, 1e9, 1.0, 120, 1e9 + 0.25, 1.0))), dict(zip(ARMS, (3, -1e9, 4.0, 2, -1e9 + 1, 2.0)))])
stratified([dict(zip(ARMS, (10**6, 5.0 + i, 2.0, 10**6 + i, 5.2 + i, 2.0))) for i in range(12)])

path = os.path.join(os.path.dirname(__file__), "..", "data", "statistics_edges.json")
with open(path, "w") as file:
    file.write('{"meta": {"made_by": "tests/oracle/edges.py", "tolerance": "largest relative error; absolute where 0 is expected"}, "cases": [\n')
    file.write(",\n".join(json.dumps(entry) for entry in CASES))
    file.write("\n]}\n")
print(len(CASES), "cases")
