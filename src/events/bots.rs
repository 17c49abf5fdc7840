//! Tells bots by the name they give themselves.
//! In: a user agent. Out: the reason to mark an event, or nothing. Marked events are stored like all others: leaving them out is
//! the choice of a query, made alike for every variant.

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
