//! The registry of bucketing algorithms: a salt and a unit in, one of a fixed number of buckets out.
//! Every algorithm is pure, allocates nothing and is named by an identifier with a version, which an allocation
//! records: an assignment can be re-derived as long as its row exists. Algorithms of other systems keep their input
//! order, separators and arithmetic to the bit; what a range of buckets means is left to the caller.

pub mod hash;

use std::fmt;

use self::hash::Murmur3;

/// An algorithm of the registry. The identifiers never change their meaning: a different hash input, arithmetic or
/// resolution is a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `md5-mod10000/1`: `md5(salt - unit)`, first four bytes big-endian, modulo 10,000 (Eppo's UFC). The default,
    /// because plain SQL can re-derive it.
    Md5Mod10000,
    /// `fnv1a-gb/1`: GrowthBook hashVersion 1, `fnv1a32(unit seed) % 1000`. Two experiments are not independent.
    FnvGrowthbook1,
    /// `fnv1a-gb/2`: GrowthBook hashVersion 2, `fnv1a32(str(fnv1a32(seed unit))) % 10000`.
    FnvGrowthbook2,
    /// `murmur3-flagd/2`: flagd's integer `fractional` over `salt unit`.
    MurmurFlagd2,
    /// `murmur3-flagd/3`: flagd's integer `fractional` over the CBOR array `[salt, unit]`.
    MurmurFlagd3,
    /// `murmur3-unleash/1`: `murmur3(salt:unit)`, 100 buckets for a rollout.
    MurmurUnleash,
    /// `sha256-statsig/1`: `sha256(salt.unit)`, first eight bytes big-endian.
    Sha256Statsig,
    /// `sha1-launchdarkly/1`: `sha1(salt.unit)`, fifteen hex digits as a single-precision fraction.
    Sha1LaunchDarkly,
    /// `fnv1a-goff/1`: GO Feature Flag, `fnv1a32(salt unit)`.
    FnvGoff,
    /// `crc32-flipt/1`: Flipt's variants, `crc32(salt unit) % 1000`.
    Crc32Flipt,
    /// `sha1-planout/1`: PlanOut, `sha1(salt.unit)`, fifteen hex digits.
    Sha1Planout,
}

/// A bucket: an index below the number of buckets it was drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub index: u32,
    pub of: u32,
}

/// A hash before it is cut into buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// Cut by remainder.
    Modulo(u64),
    /// Cut by the upper bits of a 64-bit product, as flagd does.
    Scaled(u32),
    /// Cut by comparing a single-precision fraction of one, as LaunchDarkly does.
    Fraction(f32),
}

struct Entry {
    algorithm: Algorithm,
    id: &'static str,
    buckets: u32,
    cuts: &'static [u32],
}

/// Any number of buckets is meaningful.
const ANY: &[u32] = &[];

const REGISTRY: [Entry; 11] = [
    entry(Algorithm::Md5Mod10000, "md5-mod10000/1", 10_000, &[10_000]),
    entry(Algorithm::FnvGrowthbook1, "fnv1a-gb/1", 1_000, &[1_000]),
    entry(Algorithm::FnvGrowthbook2, "fnv1a-gb/2", 10_000, &[10_000]),
    entry(Algorithm::MurmurFlagd2, "murmur3-flagd/2", 10_000, ANY),
    entry(Algorithm::MurmurFlagd3, "murmur3-flagd/3", 10_000, ANY),
    entry(Algorithm::MurmurUnleash, "murmur3-unleash/1", 100, ANY),
    entry(
        Algorithm::Sha256Statsig,
        "sha256-statsig/1",
        10_000,
        &[10_000, 1_000],
    ),
    entry(
        Algorithm::Sha1LaunchDarkly,
        "sha1-launchdarkly/1",
        100_000,
        &[100_000],
    ),
    entry(Algorithm::FnvGoff, "fnv1a-goff/1", 100_000, ANY),
    entry(Algorithm::Crc32Flipt, "crc32-flipt/1", 1_000, &[1_000]),
    entry(Algorithm::Sha1Planout, "sha1-planout/1", 10_000, ANY),
];

const fn entry(
    algorithm: Algorithm,
    id: &'static str,
    buckets: u32,
    cuts: &'static [u32],
) -> Entry {
    Entry {
        algorithm,
        id,
        buckets,
        cuts,
    }
}

impl Algorithm {
    /// The algorithm with this identifier, for example `md5-mod10000/1`.
    pub fn parse(id: &str) -> Option<Self> {
        REGISTRY
            .iter()
            .find(|entry| entry.id == id)
            .map(|entry| entry.algorithm)
    }

    /// Every algorithm, in the order of the registry.
    pub fn all() -> impl Iterator<Item = Self> {
        REGISTRY.iter().map(|entry| entry.algorithm)
    }

    /// The identifier that allocations record.
    pub fn id(self) -> &'static str {
        self.entry().id
    }

    /// How many buckets the system that the algorithm comes from cuts a whole into.
    pub fn buckets(self) -> u32 {
        self.entry().buckets
    }

    /// True when the hash may be cut into `of` buckets without changing what the identifier means.
    pub fn can_cut(self, of: u32) -> bool {
        let cuts = self.entry().cuts;
        of > 0 && (cuts.is_empty() || cuts.contains(&of))
    }

    /// The bucket of a unit among [`Algorithm::buckets`].
    pub fn bucket(self, salt: &str, unit: &str) -> Bucket {
        self.bucket_of(salt, unit, self.buckets())
    }

    /// The bucket of a unit among `of` buckets; callers check [`Algorithm::can_cut`] once, when they read `of`.
    pub fn bucket_of(self, salt: &str, unit: &str, of: u32) -> Bucket {
        Bucket {
            index: self.draw(salt, unit).cut(of),
            of,
        }
    }

    /// The hash of a unit under a salt, before it is cut. Inputs as read in each system's source:
    /// flagd core/pkg/evaluator/fractional.go @bbb05d4, GrowthBook sdk-js util.ts @8f1db44, Unleash yggdrasil
    /// strategy_parsing.rs @a6e91e5, Eppo sharder.rs @c080b7c, Statsig Evaluator.ts, LaunchDarkly
    /// rust-server-sdk-evaluation context.rs, GO Feature Flag modules/core/utils/hash.go @3c7c30d, Flipt
    /// evaluation.go @f1905b6, PlanOut ops/random.py @eee7647.
    pub fn draw(self, salt: &str, unit: &str) -> Draw {
        match self {
            Self::Md5Mod10000 => Draw::Modulo(hash::md5_32(&[salt, "-", unit]).into()),
            Self::FnvGrowthbook1 => Draw::Modulo(hash::fnv1a_32_utf16(&[unit, salt]).into()),
            Self::FnvGrowthbook2 => Draw::Modulo(growthbook_2(salt, unit).into()),
            Self::MurmurFlagd2 => Draw::Scaled(hash::murmur3_32(&[salt, unit], 0)),
            Self::MurmurFlagd3 => Draw::Scaled(flagd_3(salt, unit)),
            Self::MurmurUnleash => Draw::Modulo(hash::murmur3_32(&[salt, ":", unit], 0).into()),
            Self::Sha256Statsig => Draw::Modulo(hash::sha256_64(&[salt, ".", unit])),
            Self::Sha1LaunchDarkly => {
                Draw::Fraction(launch_darkly(hash::sha1_60(&[salt, ".", unit])))
            }
            Self::FnvGoff => Draw::Modulo(hash::fnv1a_32(&[salt, unit]).into()),
            Self::Crc32Flipt => Draw::Modulo(hash::crc32(&[salt, unit]).into()),
            Self::Sha1Planout => Draw::Modulo(hash::sha1_60(&[salt, ".", unit])),
        }
    }

    fn entry(self) -> &'static Entry {
        &REGISTRY[self as usize]
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.id())
    }
}

impl Draw {
    /// The index of the bucket among `of` buckets; 0 when there is none to choose from.
    pub fn cut(self, of: u32) -> u32 {
        if of == 0 {
            return 0;
        }
        match self {
            Self::Modulo(hash) => (hash % u64::from(of)) as u32,
            Self::Scaled(hash) => ((u64::from(hash) * u64::from(of)) >> 32) as u32,
            Self::Fraction(fraction) => cut_fraction(fraction, of),
        }
    }
}

impl Bucket {
    /// The lower end of the bucket as a fraction of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.index) / f64::from(self.of)
    }
}

/// The last bucket whose lower end, in single precision, does not pass the fraction. The rounded product may be one
/// off, because LaunchDarkly compares with `weight / of` and not with the product.
fn cut_fraction(fraction: f32, of: u32) -> u32 {
    let lower_end = |index: u32| index as f32 / of as f32;
    let mut index = ((fraction * of as f32) as u32).min(of - 1);
    while index > 0 && lower_end(index) > fraction {
        index -= 1;
    }
    while index + 1 < of && lower_end(index + 1) <= fraction {
        index += 1;
    }
    index
}

fn growthbook_2(seed: &str, unit: &str) -> u32 {
    hash::fnv1a_32_decimal(hash::fnv1a_32_utf16(&[seed, unit]))
}

/// flagd's version 3 hashes the CBOR of `[salt, unit]` (flagd ADR fractional-non-string-rand-units).
fn flagd_3(salt: &str, unit: &str) -> u32 {
    let mut hasher = Murmur3::new(0);
    hasher.update(&[0x82]);
    hasher.update_cbor_text(salt);
    hasher.update_cbor_text(unit);
    hasher.finish()
}

/// Fifteen hex digits over the largest such number, both in single precision as in LaunchDarkly's SDKs.
pub fn launch_darkly(hash: u64) -> f32 {
    const SCALE: f32 = 0x0FFF_FFFF_FFFF_FFFF_u64 as f32;
    hash as f32 / SCALE
}

/// Unleash picks a strategy's variant with another seed than its rollout; the target is one-based there, zero-based
/// here.
pub fn unleash_variant(group: &str, unit: &str, total_weight: u32) -> u32 {
    const VARIANT_SEED: u32 = 86_028_157;
    Draw::Modulo(hash::murmur3_32(&[group, ":", unit], VARIANT_SEED).into()).cut(total_weight)
}

/// Flipt's boolean rollouts put the unit first and have 100 buckets.
pub fn flipt_boolean(flag: &str, unit: &str) -> Bucket {
    Bucket {
        index: Draw::Modulo(hash::crc32(&[unit, flag]).into()).cut(100),
        of: 100,
    }
}

/// GrowthBook's namespaces use hash version 1 with two underscores between unit and name.
pub fn growthbook_namespace(name: &str, unit: &str) -> Bucket {
    let hash = hash::fnv1a_32_utf16(&[unit, "__", name]);
    Bucket {
        index: Draw::Modulo(hash.into()).cut(1_000),
        of: 1_000,
    }
}
