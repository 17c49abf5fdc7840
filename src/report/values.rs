//! Numbers and words as the pages say them.

use chrono::{NaiveDateTime, TimeDelta};
use minijinja::HtmlEscape;

use crate::experiments::words::{number, percent, signed};

use super::evidence::Outcome;

/// A decision as the command line shouts it.
pub fn decision(word: &str) -> String {
    word.to_uppercase().replace('_', "-")
}

/// Decisions by what they ask of their reader, the first the most.
pub fn urgency(word: &str) -> usize {
    const ORDER: [&str; 6] = ["abort", "invalid", "review", "ship", "no_ship", "continue"];
    let place = ORDER.iter().position(|known| *known == word);
    place.unwrap_or(ORDER.len())
}

/// A class of the style sheet; a word that is not ours has none of its own.
pub fn class(word: &str) -> &'static str {
    match word {
        "ship" => "good",
        "no_ship" | "abort" => "bad",
        "invalid" => "invalid",
        "review" => "review",
        _ => "plain",
    }
}

/// `+6.2 % (3.1 % to 9.4 %)`, or nothing.
pub fn lift(lift: Option<f64>, low: Option<f64>, high: Option<f64>) -> Option<String> {
    let (lift, low, high) = (lift?, low?, high?);
    Some(format!(
        "{} ({} to {})",
        signed(lift),
        signed(low),
        signed(high)
    ))
}

pub fn p(value: Option<f64>) -> Option<String> {
    value.map(number)
}

/// A metric's value: a share of units in per cent, others by their size.
pub fn value(kind: Option<&str>, value: Option<f64>) -> Option<String> {
    let value = value?;
    Some(match kind {
        Some("proportion" | "retention" | "funnel") => percent(value),
        _ if value.abs() >= 10_000.0 || value.fract() == 0.0 => whole(value.round()),
        _ if value.abs() >= 100.0 => format!("{value:.1}"),
        _ => number(value),
    })
}

/// `12 345`, with spaces that do not break.
pub fn count(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if count < 0 { format!("-{text}") } else { text }
}

fn whole(value: f64) -> String {
    match value.abs() < 1e15 {
        true => count(value as i64),
        false => format!("{value:.3e}"),
    }
}

/// `2026-11-24 01:13 UTC`; a time that looks otherwise stays as it is.
pub fn minute(time: &str) -> String {
    match (time.split_once('T'), time.ends_with('Z')) {
        (Some((day, clock)), true) if clock.is_char_boundary(5) && clock.len() > 5 => {
            format!("{day} {} UTC", &clock[..5])
        }
        _ => time.to_string(),
    }
}

/// The day of an instant.
pub fn day(instant: &str) -> String {
    instant.chars().take(10).collect()
}

/// The last day before an instant that is itself left out.
pub fn last_day(instant: &str) -> String {
    let before = instant.parse::<NaiveDateTime>().ok();
    let before = before.and_then(|end| end.checked_sub_signed(TimeDelta::microseconds(1)));
    before.map_or_else(|| day(instant), |before| before.date().to_string())
}

/// A sentence in HTML: names between backticks as code, numbers and their signs kept on one line.
pub fn sentence(text: &str) -> String {
    let pieces = text
        .replace(" %", "\u{a0}%")
        .replace("p = ", "p\u{a0}=\u{a0}");
    let mut html = String::new();
    let mut is_code = false;
    let mut pieces = pieces.split('`').peekable();
    while let Some(piece) = pieces.next() {
        let escaped = HtmlEscape(piece);
        // A backtick without a second one is one.
        match (is_code, pieces.peek().is_some()) {
            (true, true) => html += &format!("<code>{escaped}</code>"),
            (true, false) => html += &format!("`{escaped}"),
            (false, _) => html += &escaped.to_string(),
        }
        is_code = !is_code;
    }
    html
}

/// What an interval says of a metric: `better`, `worse`, or `unclear` where it holds zero.
pub fn tendency(outcome: &Outcome) -> &'static str {
    let relative = outcome.lift_low.zip(outcome.lift_high);
    let Some((low, high)) = relative.or(outcome.effect_low.zip(outcome.effect_high)) else {
        return "unknown";
    };
    let (gains, loses) = (low > 0.0, high < 0.0);
    match (outcome.direction.as_deref(), gains, loses) {
        (_, false, false) => "unclear",
        (Some("increase"), true, _) | (Some("decrease"), _, true) => "better",
        (Some("increase" | "decrease"), _, _) => "worse",
        (_, true, _) => "more",
        _ => "less",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_in_groups_of_three() {
        let plain = |number| count(number).replace('\u{202f}', " ");
        assert_eq!(plain(0), "0");
        assert_eq!(plain(999), "999");
        assert_eq!(plain(-1_234_567), "-1 234 567");
    }

    #[test]
    fn names_in_sentences_are_code_and_nothing_else_is_html() {
        assert_eq!(
            sentence("`a_b` rose: +1.00 %"),
            "<code>a_b</code> rose: +1.00\u{a0}%"
        );
        assert_eq!(sentence("<b>`<i>`"), "&lt;b&gt;<code>&lt;i&gt;</code>");
        assert_eq!(sentence("one ` only"), "one ` only");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn times_are_told_to_the_minute() {
        assert_eq!(
            minute("2026-11-24T01:13:24.583117Z"),
            "2026-11-24 01:13 UTC"
        );
        assert_eq!(minute("yesterday"), "yesterday");
        assert_eq!(last_day("2026-04-13T00:00:00"), "2026-04-12");
        assert_eq!(last_day("2026-04-13T12:00:00"), "2026-04-13");
        assert_eq!(last_day("2026-04-13"), "2026-04-13");
    }

    #[test]
    fn less_is_better_where_the_metric_says_so() {
        let outcome = |direction: &str, low, high| Outcome {
            direction: Some(direction.into()),
            lift_low: Some(low),
            lift_high: Some(high),
            ..Outcome::default()
        };
        assert_eq!(tendency(&outcome("decrease", -0.3, -0.1)), "better");
        assert_eq!(tendency(&outcome("decrease", 0.1, 0.3)), "worse");
        assert_eq!(tendency(&outcome("increase", -0.1, 0.3)), "unclear");
        assert_eq!(tendency(&outcome("none", 0.1, 0.3)), "more");
        assert_eq!(tendency(&Outcome::default()), "unknown");
    }
}
