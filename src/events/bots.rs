//! Tells bots by the name they give themselves, and by how many units one address speaks for.
//! In: a user agent, or an address and the units of its events. Out: the reason to mark an event, or nothing. Marked events are
//! stored like all others: leaving them out is the choice of a query, made alike for every variant.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::event::{Event, text};

/// Why a user agent is taken for a bot; empty when it is not.
pub fn reason_for(user_agent: &str) -> &'static str {
    let user_agent = user_agent.to_ascii_lowercase();
    let named = NAMES.iter().find(|(part, _)| user_agent.contains(part));
    named.map_or("", |(_, reason)| reason)
}

/// The same for the user agent an event carries, as one sent by a server on behalf of a browser does.
pub fn reason_in(event: &Event<'_>) -> &'static str {
    let named = |name: &&str| event.rest.iter().find(|(key, _)| key == name);
    let user_agent = ["user_agent", "userAgent"]
        .iter()
        .find_map(named)
        .and_then(|(_, raw)| text(raw));
    user_agent.map_or("", |user_agent| reason_for(&user_agent))
}

/// Counts the units an address sends events of, minute by minute.
pub struct Crowds {
    /// Units of one address in a minute beyond which it is a bot; 0 is no limit.
    limit: usize,
    /// Addresses and units are kept as hashes of this process only.
    keys: RandomState,
    minute: Mutex<Minute>,
}

#[derive(Default)]
struct Minute {
    number: i64,
    pairs: HashSet<u64>,
    units: HashMap<u64, usize>,
}

/// Pairs of address and unit that are told apart in a minute, at most 2 MiB. What comes beyond is not counted, so that a flood makes
/// the server mark too little and not grow.
const MOST_PAIRS: usize = 100_000;

impl Crowds {
    /// A count that marks an address from its unit number `limit` + 1 on to the end of the minute.
    pub fn new(limit: usize) -> Crowds {
        Crowds {
            limit,
            keys: RandomState::new(),
            minute: Mutex::default(),
        }
    }

    /// Counts one event; `at` in microseconds since 1970. Why its sender is taken for a bot; empty when it is not.
    pub fn reason_for(&self, address: IpAddr, unit: &str, at: i64) -> &'static str {
        if self.limit == 0 {
            return "";
        }
        let sender = self.keys.hash_one(network(address));
        let pair = self.keys.hash_one((sender, unit));
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.add(at.div_euclid(60_000_000), sender, pair) > self.limit {
            "one address sends events of many units"
        } else {
            ""
        }
    }
}

impl Minute {
    /// How many units `sender` has in minute `number`, the one of `pair` included.
    fn add(&mut self, number: i64, sender: u64, pair: u64) -> usize {
        if self.number != number {
            *self = Minute {
                number,
                ..Minute::default()
            };
        }
        if self.pairs.len() < MOST_PAIRS && self.pairs.insert(pair) {
            *self.units.entry(sender).or_default() += 1;
        }
        self.units.get(&sender).copied().unwrap_or_default()
    }
}

/// A household has one IPv4 address, and one network of 64 bits in IPv6.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// Parts of the user agents of crawlers, previews, monitors and headless browsers.
const NAMES: [(&str, &str); 14] = [
    ("bot", "user agent names a bot"),
    ("crawl", "user agent names a crawler"),
    ("spider", "user agent names a crawler"),
    ("slurp", "user agent names a crawler"),
    ("facebookexternalhit", "user agent names a link preview"),
    ("whatsapp/", "user agent names a link preview"),
    ("headless", "user agent names a headless browser"),
    ("phantomjs", "user agent names a headless browser"),
    ("puppeteer", "user agent names a headless browser"),
    ("playwright", "user agent names a headless browser"),
    ("lighthouse", "user agent names a page audit"),
    ("pingdom", "user agent names a monitor"),
    ("uptime", "user agent names a monitor"),
    ("statuscake", "user agent names a monitor"),
];
