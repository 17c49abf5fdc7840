//! Who visits the shop: profiles, visiting habits and the variants each unit hashes into.
//! In: seed, scenario. Out: a [`Population`]. Profiles are recomputed on demand; only the hashed variants are kept, two bytes
//! per unit and layer.

use super::random::{Draws, Purpose, exponential, mix};
use super::scenario::Scenario;
use super::{GenerateOptions, UnitIds};
use crate::flags::bucketing::Algorithm;

pub const COUNTRIES: [&str; 6] = ["US", "DE", "FR", "GB", "JP", "BR"];
pub const PLATFORMS: [&str; 3] = ["web", "ios", "android"];
pub const PLANS: [&str; 3] = ["free", "plus", "enterprise"];

/// How every layer and experiment of the shop hashes its units.
pub const ALGORITHM: Algorithm = Algorithm::Md5Mod10000;

pub fn bucket(salt: &str, unit: &str) -> u16 {
    ALGORITHM.bucket(salt, unit).index as u16
}

pub struct Population<'a> {
    pub options: &'a GenerateOptions,
    pub scenario: &'a Scenario,
    /// Per unit and layer: the experiment's index plus 1, or 0 outside every slot.
    slots: Vec<u16>,
}

pub struct Profile {
    pub country: u8,
    pub platform: u8,
    pub plan: u8,
    pub is_internal: bool,
    pub is_bot: bool,
    /// The clock of the device runs hours ahead.
    pub has_skewed_clock: bool,
    /// Seconds relative to the first day; most are negative.
    pub signed_up_at: i64,
    /// Bit per weekday on which the unit usually comes.
    pub habit: u8,
    pub engagement: f64,
    pub affinity: f64,
}

pub fn populate<'a>(options: &'a GenerateOptions, scenario: &'a Scenario) -> Population<'a> {
    let width = scenario.layers.len();
    let mut slots = vec![0; options.users as usize * width];
    let share = (options.users as usize)
        .div_ceil(options.threads.max(1))
        .max(1)
        * width.max(1);
    std::thread::scope(|scope| {
        for (index, part) in slots.chunks_mut(share).enumerate() {
            let first_user = index * share / width.max(1);
            scope.spawn(move || fill_slots(options, scenario, first_user as u32, part));
        }
    });
    Population {
        options,
        scenario,
        slots,
    }
}

impl Population<'_> {
    /// The experiments whose slot the unit falls into, at most one per layer.
    pub fn experiments_of(&self, user: u32) -> impl Iterator<Item = usize> + '_ {
        let width = self.scenario.layers.len();
        let start = user as usize * width;
        self.slots[start..start + width]
            .iter()
            .filter(|&&slot| slot > 0)
            .map(|&slot| usize::from(slot) - 1)
    }

    pub fn profile(&self, user: u32) -> Profile {
        let mut draws = Draws::new(self.options.seed, u64::from(user), Purpose::Profile, 0);
        let country = weighted(&mut draws, &[0.34, 0.24, 0.16, 0.12, 0.08, 0.06]);
        let platform = weighted(&mut draws, &[0.40, 0.32, 0.28]);
        let plan = weighted(&mut draws, &[0.80, 0.16, 0.04]);
        let (is_internal, is_bot) = (draws.chance(0.006), draws.chance(0.004));
        let has_skewed_clock = draws.chance(0.002);
        let joined_late = draws.chance(0.04);
        let signed_up_at = if joined_late {
            draws.below(u64::from(self.options.days) * 86_400) as i64
        } else {
            -(draws.below(700 * 86_400) as i64) - 1
        };
        let habit = habit(&mut draws);
        let (engagement, affinity) = (exponential(0.8 * draws.normal()), 0.5 + draws.uniform());
        Profile {
            country,
            platform,
            plan,
            is_internal,
            is_bot,
            has_skewed_clock,
            signed_up_at,
            habit,
            engagement,
            affinity,
        }
    }

    /// Whether the unit visits on a day: nearly always on a day of its habit, hardly ever on another one.
    pub fn visits(&self, user: u32, profile: &Profile, day: u16) -> bool {
        if profile.is_bot {
            return true;
        }
        if i64::from(day) * 86_400 < profile.signed_up_at {
            return false;
        }
        let is_habitual = profile.habit >> (day % 7) & 1 == 1;
        let mut draws = Draws::new(
            self.options.seed,
            u64::from(user),
            Purpose::Activity,
            u64::from(day),
        );
        draws.chance(if is_habitual { 0.92 } else { 0.015 })
    }

    /// First day in `from..=until` on which the unit visits.
    pub fn first_visit(&self, user: u32, profile: &Profile, from: u16, until: u16) -> Option<u16> {
        (from..=until).find(|&day| self.visits(user, profile, day))
    }

    pub fn text_id(&self, user: u32) -> String {
        unit_text(self.options, user)
    }
}

/// The id as the log writes it; integer ids are written in decimal.
pub fn unit_text(options: &GenerateOptions, user: u32) -> String {
    match options.unit_ids {
        UnitIds::Short => format!("u{user:06}"),
        UnitIds::Integer => unit_integer(options, user).to_string(),
        UnitIds::Uuid => unit_uuid(options, user),
    }
}

/// A sparse positive 62-bit number.
pub fn unit_integer(options: &GenerateOptions, user: u32) -> i64 {
    let scrambled = mix(options.seed.wrapping_add(Purpose::UnitId as u64)) as u32;
    // The low 32 bits hold the scrambled ordinal, so that ids are distinct by construction.
    let low = u64::from((user ^ scrambled).wrapping_mul(0x9e37_79b1));
    let high = mix(low ^ options.seed) & 0x3fff_ffff;
    (high << 32 | low) as i64
}

fn unit_uuid(options: &GenerateOptions, user: u32) -> String {
    let high = unit_integer(options, user) as u64;
    let low = mix(high);
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0x0fff);
    // The ordinal's own bits stay readable in `a`, `b` and the node, so that ids are distinct.
    let node = (low & 0xffff_0000_0000) | (high & 0xffff_ffff);
    format!(
        "{a:08x}-{b:04x}-4{c:03x}-{:04x}-{node:012x}",
        0x8000 | (low >> 48 & 0x3fff)
    )
}

fn fill_slots(options: &GenerateOptions, scenario: &Scenario, first_user: u32, part: &mut [u16]) {
    for (offset, row) in part.chunks_mut(scenario.layers.len()).enumerate() {
        let unit = unit_text(options, first_user + offset as u32);
        for (index, slot) in row.iter_mut().enumerate() {
            let layer_bucket = bucket(&scenario.layers[index].salt, &unit);
            *slot = slot_of(scenario, index, layer_bucket);
        }
    }
}

fn slot_of(scenario: &Scenario, layer: usize, layer_bucket: u16) -> u16 {
    let in_slot = |slot: (u16, u16)| (slot.0..slot.1).contains(&layer_bucket);
    let found = scenario
        .experiments
        .iter()
        .position(|e| e.layer == layer && in_slot(e.slot));
    found.map_or(0, |index| index as u16 + 1)
}

fn weighted(draws: &mut Draws, shares: &[f64]) -> u8 {
    let point = draws.uniform();
    let mut edge = 0.0;
    for (index, share) in shares.iter().enumerate() {
        edge += share;
        if point < edge {
            return index as u8;
        }
    }
    shares.len() as u8 - 1
}

/// One to five habitual weekdays, 1.45 on average; a steady habit is what makes the pre-period predict the experiment.
fn habit(draws: &mut Draws) -> u8 {
    let count = [1, 2, 3, 5][usize::from(weighted(draws, &[0.72, 0.19, 0.06, 0.03]))];
    let mut days = 0u8;
    while days.count_ones() < count {
        days |= 1 << draws.below(7);
    }
    days
}
