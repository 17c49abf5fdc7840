//! Random numbers that depend on keys only, not on who draws them when. In: a seed and keys. Out: bits, uniforms, Poisson weights.
//! A counter-based generator in the sense of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): each number is a hash
//! of (seed, unit, replicate), so partitions, threads and order cannot change it.

/// The 64 bits of a key: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) over the three words in turn.
#[inline]
pub fn bits(seed: u64, unit: u64, replicate: u64) -> u64 {
    mix(mix(mix(seed) ^ unit) ^ replicate)
}

/// A uniform number in (0, 1), never an end.
#[inline]
pub fn uniform(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
}

/// A Poisson(1) weight by inversion: 0, 1, 2, ... with probability e^-1 / k!.
#[inline]
pub fn poisson_one(bits: u64) -> u32 {
    // Cumulative probabilities of Poisson(1), times 2^64, rounded down.
    const CUMULATIVE: [u64; 12] = [
        6_786_177_901_268_885_274,
        13_572_355_802_537_770_549,
        16_965_444_753_172_213_186,
        18_096_474_403_383_694_065,
        18_379_231_815_936_564_284,
        18_435_783_298_447_138_329,
        18_445_208_545_532_234_003,
        18_446_555_009_401_533_385,
        18_446_723_317_385_195_808,
        18_446_742_018_272_269_410,
        18_446_743_888_360_976_771,
        18_446_744_058_369_041_076,
    ];
    CUMULATIVE
        .iter()
        .take_while(|limit| bits >= **limit)
        .count() as u32
}

/// A stable 64-bit key of a unit's text identifier (FNV-1a, then mixed).
pub fn unit_key(text: &str) -> u64 {
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// A stream of numbers for simulations, seeded.
#[derive(Clone, Debug)]
pub struct Stream {
    state: u64,
}

impl Stream {
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed) }
    }

    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finish(self.state)
    }

    #[inline]
    pub fn uniform(&mut self) -> f64 {
        uniform(self.bits())
    }

    /// A whole number below `limit`, which must not be zero (Lemire 2019, without rejection: bias below limit / 2^64).
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }
}

#[inline]
fn mix(word: u64) -> u64 {
    finish(word.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

#[inline]
fn finish(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
