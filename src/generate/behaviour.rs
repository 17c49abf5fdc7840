//! What the units do on one day: visits, assignments, exposures, clicks, orders and refunds, and how the logs receive them.
//! In: a [`Population`] and a day. Out: a [`DayLog`] of rows, in unit order. Each row depends on (seed, unit, day) only.

use super::population::{Population, Profile, bucket};
use super::random::{Draws, Purpose};
use super::scenario::{BEHAVIOURS, Behaviour, Experiment, Kind, LOSING_PLATFORM, LOST_SHARE};

pub const SECOND: i64 = 1_000_000;
pub const DAY: i64 = 86_400 * SECOND;

/// Names of clickstream events, by [`EventRow::name`].
pub const EVENT_NAMES: [&str; 10] = [
    "session_start",
    "page_load",
    "page_view",
    "product_view",
    "search",
    "add_to_cart",
    "checkout_started",
    "payment_visit",
    "error",
    "support_ticket",
];
const SESSION_START: u8 = 0;
const PAGE_LOAD: u8 = 1;
const PAGE_VIEW: u8 = 2;
const PRODUCT_VIEW: u8 = 3;
const SEARCH: u8 = 4;
const ADD_TO_CART: u8 = 5;
const CHECKOUT_STARTED: u8 = 6;
const PAYMENT_VISIT: u8 = 7;
const ERROR: u8 = 8;
const SUPPORT_TICKET: u8 = 9;

/// Rows of a log by table; times are microseconds since the first day began.
#[derive(Default)]
pub struct DayLog {
    pub assignments: Vec<AssignmentRow>,
    pub exposures: Vec<AssignmentRow>,
    pub events: Vec<EventRow>,
    pub conversions: Vec<ConversionRow>,
}

/// When something happened by the device's clock, when the device sent it, and when the log received it.
#[derive(Clone, Copy)]
pub struct Times {
    pub occurred: i64,
    pub sent: i64,
    pub received: i64,
}

/// Identity of a logged row: unique within its table, except where the log received a row twice.
#[derive(Clone, Copy)]
pub struct Origin {
    pub user: u32,
    pub day: u16,
    pub number: u16,
}

#[derive(Clone, Copy)]
pub struct AssignmentRow {
    pub origin: Origin,
    pub times: Times,
    pub experiment: u16,
    pub bucket: u16,
    pub layer_bucket: u16,
    pub variant: u8,
    pub is_override: bool,
}

#[derive(Clone, Copy)]
pub struct EventRow {
    pub origin: Origin,
    pub times: Times,
    pub session: u16,
    pub name: u8,
    pub is_bot: bool,
    /// load_ms of a page load, engaged seconds of a session, 0 or 1 of a payment visit; -1 elsewhere.
    pub measure: i32,
}

#[derive(Clone, Copy)]
pub struct ConversionRow {
    pub origin: Origin,
    pub times: Times,
    pub session: u16,
    pub is_refund: bool,
    pub cents: i64,
}

/// Everything the units `users` do on `day`.
pub fn live(population: &Population, users: std::ops::Range<u32>, day: u16) -> DayLog {
    let mut log = DayLog::default();
    for user in users {
        let profile = population.profile(user);
        if population.visits(user, &profile, day) {
            Visitor::new(population, &profile, user, day).visit(&mut log);
        }
    }
    log
}

/// One unit on one day.
struct Visitor<'a> {
    population: &'a Population<'a>,
    profile: &'a Profile,
    user: u32,
    day: u16,
    draws: Draws,
    number: u16,
    factors: [f64; BEHAVIOURS],
}

impl<'a> Visitor<'a> {
    fn new(population: &'a Population, profile: &'a Profile, user: u32, day: u16) -> Visitor<'a> {
        let draws = Draws::new(
            population.options.seed,
            u64::from(user),
            Purpose::Session,
            u64::from(day),
        );
        Visitor {
            population,
            profile,
            user,
            day,
            draws,
            number: 0,
            factors: [1.0; BEHAVIOURS],
        }
    }

    fn visit(mut self, log: &mut DayLog) {
        // Two uniforms give visits between 5:00 and 23:00 with a peak at 14:00.
        let hour = 5.0 + 9.0 * (self.draws.uniform() + self.draws.uniform());
        let start = i64::from(self.day) * DAY
            + (hour * 3600.0) as i64 * SECOND
            + self.draws.below(SECOND as u64) as i64;
        self.meet_experiments(start, log);
        let sessions = if self.profile.is_bot { 8 } else { 1 };
        for session in 0..sessions {
            self.session(
                start + SECOND + i64::from(session) * 1_800 * SECOND,
                session,
                log,
            );
        }
    }

    /// Logs what the flags answered and collects the effects of the variants the unit is exposed to.
    fn meet_experiments(&mut self, start: i64, log: &mut DayLog) {
        for index in self.population.experiments_of(self.user) {
            let experiment = &self.population.scenario.experiments[index];
            if experiment.runs_on(self.day) {
                self.meet(index, experiment, start, log);
            }
        }
    }

    fn meet(&mut self, index: usize, experiment: &Experiment, start: i64, log: &mut DayLog) {
        let allocation = experiment.allocation_on(self.day);
        let first_of = |from| {
            self.population
                .first_visit(self.user, self.profile, from, self.day)
        };
        let is_first_answer = first_of(allocation.from_day) == Some(self.day);
        if !is_first_answer && experiment.effects.is_empty() {
            return;
        }
        let unit = self.population.text_id(self.user);
        let hashed = bucket(&allocation.salt, &unit);
        let is_override = self.profile.is_internal;
        let variant = if is_override {
            1
        } else {
            allocation.variant_of(hashed)
        };
        let is_exposed = !is_override && self.is_exposed(index);
        if variant == 1 && (is_exposed || is_override) {
            self.apply(experiment);
        }
        if is_first_answer && !self.is_lost(experiment, index, variant) {
            let layer_bucket = bucket(
                &self.population.scenario.layers[experiment.layer].salt,
                &unit,
            );
            let origin = self.origin();
            let times = self.times(start);
            let row = AssignmentRow {
                origin,
                times,
                experiment: index as u16,
                bucket: hashed,
                layer_bucket,
                variant,
                is_override,
            };
            self.deliver(row, &mut log.assignments);
            if is_exposed {
                let shown = AssignmentRow {
                    origin: self.origin(),
                    times: self.times(start + SECOND / 5),
                    ..row
                };
                self.deliver(shown, &mut log.exposures);
            }
        }
    }

    /// Three in a hundred units leave before the surface renders, in both arms alike.
    fn is_exposed(&self, experiment: usize) -> bool {
        let seed = self.population.options.seed;
        Draws::new(
            seed,
            u64::from(self.user),
            Purpose::Exposure,
            experiment as u64,
        )
        .chance(0.97)
    }

    fn is_lost(&self, experiment: &Experiment, index: usize, variant: u8) -> bool {
        let platform = super::population::PLATFORMS[usize::from(self.profile.platform)];
        let at_risk = experiment.kind == Kind::SampleRatioMismatch
            && variant == 1
            && platform == LOSING_PLATFORM;
        at_risk
            && Draws::new(
                self.population.options.seed,
                u64::from(self.user),
                Purpose::Loss,
                index as u64,
            )
            .chance(LOST_SHARE)
    }

    fn apply(&mut self, experiment: &Experiment) {
        for effect in &experiment.effects {
            self.factors[effect.behaviour as usize] *= 1.0 + effect.relative;
        }
    }

    fn session(&mut self, start: i64, session: u16, log: &mut DayLog) {
        let engaged = 240.0
            * self.profile.engagement
            * self.draws.lognormal(0.25)
            * self.factor(Behaviour::Engagement);
        self.event(log, SESSION_START, start, session, (engaged as i32).max(1));
        self.browse(start, session, log);
        if self.profile.is_bot {
            return;
        }
        if self.happens(0.36 * self.profile.affinity, Behaviour::Cart) {
            self.event(log, ADD_TO_CART, start + 60 * SECOND, session, -1);
            self.check_out(start + 90 * SECOND, session, log);
        }
        if self.draws.chance(0.008) {
            self.event(log, SUPPORT_TICKET, start + 400 * SECOND, session, -1);
        }
    }

    fn browse(&mut self, start: i64, session: u16, log: &mut DayLog) {
        if self.draws.chance(0.3) {
            let load = 850.0 * self.draws.lognormal(0.25) * self.factor(Behaviour::LoadTime);
            self.event(log, PAGE_LOAD, start + SECOND / 2, session, load as i32);
        }
        let expected = self.population.options.page_views_per_session;
        let views = expected as u16 + u16::from(self.draws.chance(expected - expected.floor()));
        for view in 0..views {
            self.event(
                log,
                PAGE_VIEW,
                start + (2 + 9 * i64::from(view)) * SECOND,
                session,
                -1,
            );
        }
        if self.draws.chance(0.35) {
            self.event(log, PRODUCT_VIEW, start + 30 * SECOND, session, -1);
        }
        if self.happens(0.2, Behaviour::Search) {
            self.event(log, SEARCH, start + 10 * SECOND, session, -1);
        }
        if self.draws.chance(0.015) {
            self.event(log, ERROR, start + 12 * SECOND, session, -1);
        }
    }

    fn check_out(&mut self, start: i64, session: u16, log: &mut DayLog) {
        if !self.happens(0.62, Behaviour::Checkout) {
            return;
        }
        self.event(log, CHECKOUT_STARTED, start, session, -1);
        if !self.draws.chance(0.92) {
            return;
        }
        let succeeded = self.happens(0.85, Behaviour::PaymentSuccess);
        self.event(
            log,
            PAYMENT_VISIT,
            start + 45 * SECOND,
            session,
            i32::from(succeeded),
        );
        if succeeded {
            self.order(start + 80 * SECOND, session, log);
        }
    }

    fn order(&mut self, at: i64, session: u16, log: &mut DayLog) {
        let cents =
            (3_900.0 * self.draws.lognormal(0.5) * self.factor(Behaviour::OrderValue)) as i64;
        self.conversion(log, at, session, false, cents);
        if self.happens(0.05, Behaviour::Refund) {
            let days_later = 2 + self.draws.below(4) as i64;
            self.conversion(log, at + days_later * DAY, session, true, cents);
        }
    }

    fn factor(&self, behaviour: Behaviour) -> f64 {
        self.factors[behaviour as usize]
    }

    fn happens(&mut self, probability: f64, behaviour: Behaviour) -> bool {
        let probability = probability * self.factor(behaviour);
        self.draws.chance(probability)
    }

    fn event(&mut self, log: &mut DayLog, name: u8, at: i64, session: u16, measure: i32) {
        let is_bot = self.profile.is_bot;
        let row = EventRow {
            origin: self.origin(),
            times: self.times(at),
            session,
            name,
            is_bot,
            measure,
        };
        self.deliver(row, &mut log.events);
    }

    fn conversion(&mut self, log: &mut DayLog, at: i64, session: u16, is_refund: bool, cents: i64) {
        let row = ConversionRow {
            origin: self.origin(),
            times: self.times(at),
            session,
            is_refund,
            cents,
        };
        self.deliver(row, &mut log.conversions);
    }

    fn origin(&mut self) -> Origin {
        self.number += 1;
        Origin {
            user: self.user,
            day: self.day,
            number: self.number,
        }
    }

    /// One row in a hundred waits up to three days on the device; a skewed clock shifts what the device says, not the log.
    fn times(&mut self, at: i64) -> Times {
        let mut draws = self.draws_for(Purpose::Delivery);
        let sent = at + draws.below(800_000) as i64;
        let is_late = draws.chance(0.01);
        let waited = if is_late {
            draws.below(3 * DAY as u64) as i64
        } else {
            0
        };
        let received = sent + waited + 20_000 + draws.below(400_000) as i64;
        let ahead = if self.profile.has_skewed_clock {
            5 * 3600 * SECOND
        } else {
            0
        };
        let millisecond = |micros: i64| micros - micros.rem_euclid(1_000);
        Times {
            occurred: millisecond(at + ahead),
            sent: millisecond(sent + waited + ahead),
            received: millisecond(received),
        }
    }

    /// One row in a hundred is delivered twice, under the same event id.
    fn deliver<R: Logged>(&mut self, row: R, rows: &mut Vec<R>) {
        rows.push(row);
        let mut draws = self.draws_for(Purpose::Redelivery);
        if draws.chance(0.01) {
            let delay = SECOND + draws.below(30 * SECOND as u64) as i64;
            rows.push(row.received_again(delay));
        }
    }

    fn draws_for(&self, purpose: Purpose) -> Draws {
        let occasion = u64::from(self.day) << 16 | u64::from(self.number);
        Draws::new(
            self.population.options.seed,
            u64::from(self.user),
            purpose,
            occasion,
        )
    }
}

/// What every row of a log has.
pub trait Logged: Copy + Send {
    fn origin(&self) -> Origin;
    fn times(&self) -> Times;
    fn received_again(self, delay: i64) -> Self;

    /// The order of a raw log: as received.
    fn log_order(&self) -> (i64, u32, u16, u16) {
        let Origin { user, day, number } = self.origin();
        (self.times().received, user, day, number)
    }
}

macro_rules! logged {
    ($($row:ty),*) => {$(
        impl Logged for $row {
            fn origin(&self) -> Origin {
                self.origin
            }

            fn times(&self) -> Times {
                self.times
            }

            fn received_again(mut self, delay: i64) -> Self {
                self.times.received += delay;
                self
            }
        }
    )*};
}

logged!(AssignmentRow, EventRow, ConversionRow);
