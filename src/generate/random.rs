//! Random numbers that depend on what they are for, and on nothing else.
//! In: seed, unit, purpose and a counter. Out: integers and floats made of integer mixing, additions and multiplications only,
//! so that every machine and every thread count draws the same bits. No state is shared, nothing is drawn "next".

/// What a stream of draws is used for; two purposes never share a draw.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Purpose {
    UnitId = 1,
    Profile = 2,
    Activity = 3,
    Session = 4,
    Delivery = 5,
    Exposure = 6,
    Loss = 7,
    Scenario = 8,
    Redelivery = 9,
}

/// A stream of draws keyed by (seed, unit, purpose, occasion).
pub struct Draws {
    key: u64,
    counter: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draws {
    pub fn new(seed: u64, unit: u64, purpose: Purpose, occasion: u64) -> Draws {
        let by_purpose = mix(seed ^ mix((purpose as u64).wrapping_mul(GOLDEN)));
        let by_unit = mix(by_purpose ^ unit.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Draws {
            key: mix(by_unit ^ occasion.wrapping_mul(0xaef1_7502_108e_f2d9)),
            counter: 0,
        }
    }

    pub fn integer(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.integer() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [0, bound).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.integer()) * u128::from(bound)) >> 64) as u64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Mean 0, variance 1, bell-shaped and bounded by about 4.2: a centred sum of six uniforms.
    // The usual transforms call ln and cos, whose last bit differs between math libraries.
    pub fn normal(&mut self) -> f64 {
        let sum: f64 = (0..6).map(|_| self.uniform()).sum();
        (sum - 3.0) * std::f64::consts::SQRT_2
    }

    /// Log-normal with median 1.
    pub fn lognormal(&mut self, sigma: f64) -> f64 {
        exponential(sigma * self.normal())
    }
}

/// e^x as (1 + x/1024)^1024: basic arithmetic only, hence the same bits everywhere; 0.3 % off at |x| = 2.5.
pub fn exponential(exponent: f64) -> f64 {
    let mut power = 1.0 + exponent / 1024.0;
    for _ in 0..10 {
        power *= power;
    }
    power
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_they_promise() {
        let mut draws = Draws::new(7, 1, Purpose::Session, 3);
        let count = 200_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            let value = draws.normal();
            sum += value;
            squares += value * value;
        }
        assert!((sum / f64::from(count)).abs() < 0.01);
        assert!((squares / f64::from(count) - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_draw_is_the_same_for_ever() {
        let mut draws = Draws::new(42, 9, Purpose::Profile, 0);
        assert_eq!(
            draws.integer(),
            Draws::new(42, 9, Purpose::Profile, 0).integer()
        );
        assert_ne!(
            draws.integer(),
            Draws::new(42, 9, Purpose::Activity, 0).integer()
        );
    }
}
