//! What is true in the generated shop: its layers, its experiments, what each treatment does to behaviour, what goes wrong.
//! In: the options. Out: a [`Scenario`]. The eight named experiments each prove one decision; further ones are drawn.

use super::GenerateOptions;
use super::random::{Draws, Purpose};

pub struct Scenario {
    pub layers: Vec<Layer>,
    pub experiments: Vec<Experiment>,
}

pub struct Layer {
    pub key: String,
    pub salt: String,
}

/// One experiment of one flag, with control and treatment.
pub struct Experiment {
    pub key: String,
    pub kind: Kind,
    pub hypothesis: &'static str,
    pub owner: &'static str,
    pub surface: &'static str,
    pub layer: usize,
    /// Half-open range of layer buckets.
    pub slot: (u16, u16),
    pub first_day: u16,
    /// Inclusive; may lie after the last day of data.
    pub last_day: u16,
    pub allocations: Vec<Allocation>,
    pub primary: &'static str,
    pub secondary: &'static [&'static str],
    pub guardrails: &'static [(&'static str, f64)],
    pub effects: Vec<Effect>,
}

/// An append-only split of the 10,000 buckets, in force from a day on.
pub struct Allocation {
    pub id: String,
    pub salt: String,
    pub from_day: u16,
    /// Half-open bucket ranges of control and treatment.
    pub split: [Vec<(u16, u16)>; 2],
}

#[derive(Clone, Copy)]
pub struct Effect {
    pub behaviour: Behaviour,
    /// +0.1 multiplies the behaviour by 1.1 from the first exposure on.
    pub relative: f64,
}

/// A rate or size that a treatment can multiply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Search,
    Cart,
    Checkout,
    PaymentSuccess,
    OrderValue,
    Refund,
    Engagement,
    LoadTime,
}

pub const BEHAVIOURS: usize = 8;

/// The story an experiment tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Winner,
    Null,
    GuardrailHarm,
    SampleRatioMismatch,
    CrossedOver,
    StillRunning,
    Loser,
    SmallWinner,
    /// One of many, with a drawn effect that may be zero.
    Background,
}

/// Share of treatment assignments of the platform below that the faulty client of [`Kind::SampleRatioMismatch`] never sent.
pub const LOST_SHARE: f64 = 0.5;
pub const LOSING_PLATFORM: &str = "ios";

pub fn scenario(options: &GenerateOptions) -> Scenario {
    let mut scenario = Scenario {
        layers: named_layers(),
        experiments: named_experiments(options),
    };
    scenario
        .experiments
        .truncate(usize::from(options.experiments));
    let missing = usize::from(options.experiments).saturating_sub(scenario.experiments.len());
    add_background(&mut scenario, options, missing);
    scenario
}

impl Experiment {
    /// The allocation in force on a day on or after the first.
    pub fn allocation_on(&self, day: u16) -> &Allocation {
        self.allocations
            .iter()
            .rev()
            .find(|a| a.from_day <= day)
            .unwrap_or(&self.allocations[0])
    }

    pub fn runs_on(&self, day: u16) -> bool {
        (self.first_day..=self.last_day).contains(&day)
    }

    /// Product of 1 + relative effect over the behaviours that drive a metric, minus 1.
    pub fn relative_effect(&self, drivers: &[Behaviour]) -> f64 {
        let concerned = self
            .effects
            .iter()
            .filter(|effect| drivers.contains(&effect.behaviour));
        concerned.fold(1.0, |product, effect| product * (1.0 + effect.relative)) - 1.0
    }
}

impl Allocation {
    /// 0 control, 1 treatment; every bucket belongs to one of them.
    pub fn variant_of(&self, bucket: u16) -> u8 {
        let in_treatment = self.split[1]
            .iter()
            .any(|&(start, end)| (start..end).contains(&bucket));
        u8::from(in_treatment)
    }
}

fn named_layers() -> Vec<Layer> {
    [
        "checkout_page",
        "home_page",
        "search_page",
        "shipping",
        "personalisation",
    ]
    .map(layer)
    .into()
}

fn layer(key: &str) -> Layer {
    Layer {
        key: key.to_owned(),
        salt: format!("layer.{key}"),
    }
}

fn named_experiments(options: &GenerateOptions) -> Vec<Experiment> {
    let start = options.first_experiment_day();
    let end = options.days - 1;
    let middle = start + (end - start) / 4;
    let base = |key: &str, kind, layer, slot| Experiment {
        key: key.to_owned(),
        kind,
        hypothesis: "",
        owner: "team-shop",
        surface: "page",
        layer,
        slot,
        first_day: start,
        last_day: end,
        allocations: vec![halves(key, start)],
        primary: "orders_per_user",
        secondary: &["revenue_per_user", "purchase_conversion"],
        guardrails: &[("page_load_ms", 0.05)],
        effects: Vec::new(),
    };
    let effect = |behaviour, relative| Effect {
        behaviour,
        relative,
    };
    vec![
        Experiment {
            hypothesis: "A checkout on one page lets more visitors finish their order.",
            owner: "team-checkout",
            surface: "checkout",
            effects: vec![effect(Behaviour::Checkout, 0.28)],
            ..base("one_page_checkout", Kind::Winner, 0, (0, 5_000))
        },
        Experiment {
            hypothesis: "A seasonal hero banner makes visitors put more into their carts.",
            owner: "team-growth",
            surface: "home",
            primary: "add_to_cart_per_user",
            secondary: &["orders_per_user"],
            ..base("hero_banner", Kind::Null, 1, (0, 5_000))
        },
        Experiment {
            hypothesis: "A carousel of recommendations makes visitors put more into their carts.",
            owner: "team-growth",
            surface: "home",
            primary: "add_to_cart_per_user",
            secondary: &["orders_per_user"],
            effects: vec![
                effect(Behaviour::Cart, 0.25),
                effect(Behaviour::LoadTime, 0.15),
            ],
            ..base(
                "recommendation_carousel",
                Kind::GuardrailHarm,
                1,
                (5_000, 10_000),
            )
        },
        Experiment {
            hypothesis: "The new ranking shows what people look for, so more of it ends up in carts.",
            owner: "team-search",
            surface: "search",
            primary: "add_to_cart_per_user",
            secondary: &["searches_per_user"],
            effects: vec![effect(Behaviour::Cart, 0.06)],
            ..base("search_ranking", Kind::SampleRatioMismatch, 2, (0, 10_000))
        },
        Experiment {
            hypothesis: "Saying what is missing for free shipping raises the value of orders.",
            owner: "team-checkout",
            surface: "cart",
            primary: "revenue_per_user",
            secondary: &["orders_per_user"],
            allocations: moved_ranges("free_shipping_hint", start, middle),
            effects: vec![effect(Behaviour::OrderValue, 0.20)],
            ..base("free_shipping_hint", Kind::CrossedOver, 3, (0, 6_000))
        },
        Experiment {
            hypothesis: "Paying with one tap lets more payments succeed.",
            owner: "team-checkout",
            surface: "payment",
            first_day: start + (end - start) * 3 / 4,
            last_day: end + 21,
            allocations: vec![halves("express_pay", start + (end - start) * 3 / 4)],
            primary: "payment_success_rate",
            secondary: &["orders_per_user"],
            effects: vec![effect(Behaviour::PaymentSuccess, 0.03)],
            ..base("express_pay", Kind::StillRunning, 3, (6_000, 10_000))
        },
        Experiment {
            hypothesis: "Offering a matching product before checkout raises the number of orders.",
            owner: "team-checkout",
            surface: "cart",
            effects: vec![effect(Behaviour::Checkout, -0.28)],
            ..base("cart_upsell_modal", Kind::Loser, 0, (5_000, 10_000))
        },
        Experiment {
            hypothesis: "A home page in the visitor's own order keeps visitors longer.",
            owner: "team-personalisation",
            surface: "home",
            primary: "engaged_minutes_per_user",
            secondary: &["orders_per_user"],
            effects: vec![effect(Behaviour::Engagement, 0.045)],
            ..base("personal_homepage", Kind::SmallWinner, 4, (0, 10_000))
        },
    ]
}

fn halves(key: &str, from_day: u16) -> Allocation {
    let split = [vec![(0, 5_000)], vec![(5_000, 10_000)]];
    Allocation {
        id: "a1".into(),
        salt: format!("{key}.1"),
        from_day,
        split,
    }
}

/// A second allocation that keeps the shares but swaps 4 % of the buckets each way: units that come back cross over.
fn moved_ranges(key: &str, first_day: u16, second_day: u16) -> Vec<Allocation> {
    let first = halves(key, first_day);
    let split = [vec![(0, 4_600), (9_600, 10_000)], vec![(4_600, 9_600)]];
    let second = Allocation {
        id: "a2".into(),
        salt: first.salt.clone(),
        from_day: second_day,
        split,
    };
    vec![first, second]
}

/// How many background experiments share one layer: about a sixth of all units for each.
const SLOTS: usize = 6;

fn add_background(scenario: &mut Scenario, options: &GenerateOptions, count: usize) {
    for index in 0..count {
        if index % SLOTS == 0 {
            scenario
                .layers
                .push(layer(&format!("background_{:02}", index / SLOTS + 1)));
        }
        let layer = scenario.layers.len() - 1;
        let experiment = background_experiment(options, index, layer);
        scenario.experiments.push(experiment);
    }
}

fn background_experiment(options: &GenerateOptions, index: usize, layer: usize) -> Experiment {
    let mut draws = Draws::new(options.seed, index as u64, Purpose::Scenario, 0);
    let key = format!("background_{:03}", index + 1);
    let start = options.first_experiment_day();
    let first_day = start + (options.days - start) / 4 * draws.below(3) as u16;
    let edge = |slot: usize| (10_000 * slot / SLOTS) as u16;
    Experiment {
        kind: Kind::Background,
        hypothesis: "One of many small changes.",
        owner: "team-shop",
        surface: "page",
        layer,
        slot: (edge(index % SLOTS), edge(index % SLOTS + 1)),
        first_day,
        last_day: options.days - 1,
        allocations: vec![halves(&key, first_day)],
        primary: "orders_per_user",
        secondary: &["revenue_per_user"],
        guardrails: &[("page_load_ms", 0.05)],
        effects: background_effects(&mut draws),
        key,
    }
}

/// Half of the background experiments do nothing; the others move one behaviour by at most 5 %.
fn background_effects(draws: &mut Draws) -> Vec<Effect> {
    if draws.chance(0.5) {
        return Vec::new();
    }
    let choices = [
        Behaviour::Cart,
        Behaviour::Checkout,
        Behaviour::OrderValue,
        Behaviour::Engagement,
        Behaviour::Search,
    ];
    let behaviour = choices[draws.below(choices.len() as u64) as usize];
    let hundredths = draws.below(11) as f64 - 5.0;
    vec![Effect {
        behaviour,
        relative: hundredths / 100.0,
    }]
}
