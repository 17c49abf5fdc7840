//! One value's text to its value, for each type; None where the text is not of the type.
//! In: trimmed text of a CSV field or JSON value. Out: the value as Arrow stores it.

use chrono::{FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};

/// `true` and `false` in any case.
pub(super) fn plain_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// What a column declared `boolean` may hold: also t and f, yes and no, y and n, 1 and 0.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A number as programs write it: no plus sign, no leading zeros, since `007` and `+49` name something.
pub(super) fn is_plain_number(text: &str) -> bool {
    let (whole, rest) = digits(text.strip_prefix('-').unwrap_or(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    has_digits && !has_leading_zero && is_exponent(rest)
}

/// A whole number as programs write it, of any size.
pub(super) fn is_plain_whole(text: &str) -> bool {
    let (whole, rest) = digits(text.strip_prefix('-').unwrap_or(text));
    !whole.is_empty() && rest.is_empty() && (whole == "0" || !whole.starts_with('0'))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn is_exponent(text: &str) -> bool {
    let Some(power) = text.strip_prefix(['e', 'E']) else {
        return text.is_empty();
    };
    let (power, rest) = digits(power.strip_prefix(['+', '-']).unwrap_or(power));
    !power.is_empty() && rest.is_empty()
}

/// Words for not-a-number and infinity, and numbers too large for a double.
pub(super) fn is_non_finite(text: &str) -> bool {
    let word = text.trim_start_matches(['+', '-']);
    match word.as_bytes().first() {
        Some(b'n' | b'N' | b'i' | b'I') => ["nan", "inf", "infinity"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known)),
        // A double has at most 309 digits before the point, so a short number without an exponent is finite.
        _ => {
            may_be_huge(word)
                && is_plain_number(text)
                && text.parse::<f64>().is_ok_and(f64::is_infinite)
        }
    }
}

fn may_be_huge(text: &str) -> bool {
    text.len() > 300 || text.contains(['e', 'E'])
}

/// Whole numbers within `i64`; also `12.0`, which some programs write for whole numbers with gaps.
pub(super) fn whole(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0') => {
            whole
        }
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

/// A finite double.
pub(super) fn double(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(super) fn date(text: &str) -> Option<i32> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day of the calendar");
    let days = calendar_day(text)?.signed_duration_since(epoch).num_days();
    i32::try_from(days).ok()
}

fn calendar_day(text: &str) -> Option<NaiveDate> {
    let bytes = text.as_bytes();
    let has_shape = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
    if !has_shape {
        return None;
    }
    NaiveDate::from_ymd_opt(
        number(&bytes[..4])? as i32,
        number(&bytes[5..7])?,
        number(&bytes[8..])?,
    )
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

/// Microseconds since 1970-01-01T00:00:00Z of `YYYY-MM-DD`, or `YYYY-MM-DD HH:MM[:SS[.fraction]]` with a space or `T`
/// and an optional `Z` or offset. Without an offset the time is UTC. Digits after the sixth of a fraction are cut off.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let day = calendar_day(day)?;
    if rest.is_empty() {
        return Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros());
    }
    let (time, offset) = split_offset(rest.strip_prefix([' ', 'T', 't'])?)?;
    let local = NaiveDateTime::new(day, time_of_day(time)?);
    let utc = local.checked_sub_offset(offset)?;
    Some(utc.and_utc().timestamp_micros())
}

/// Splits `10:00:00+02:00` into its time and offset; no offset is UTC.
fn split_offset(text: &str) -> Option<(&str, FixedOffset)> {
    let utc = FixedOffset::east_opt(0)?;
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, utc));
    }
    let Some(sign) = text.find(['+', '-']) else {
        return Some((text, utc));
    };
    let (time, offset) = text.split_at(sign);
    let (hours, minutes) = match &offset.as_bytes()[1..] {
        [hours @ .., b':', m1, m2] if hours.len() == 2 => (number(hours)?, number(&[*m1, *m2])?),
        digits if digits.len() == 4 => (number(&digits[..2])?, number(&digits[2..])?),
        digits if digits.len() == 2 => (number(digits)?, 0),
        _ => return None,
    };
    let seconds = i32::try_from(hours * 3600 + minutes * 60)
        .ok()
        .filter(|_| minutes < 60)?;
    let signed = if offset.starts_with('-') {
        -seconds
    } else {
        seconds
    };
    Some((time.trim_end(), FixedOffset::east_opt(signed)?))
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    let (clock, fraction) = text
        .split_once('.')
        .map_or((text, None), |(clock, fraction)| (clock, Some(fraction)));
    let bytes = clock.as_bytes();
    let seconds = match bytes.len() {
        5 if fraction.is_none() => 0,
        8 if bytes[5] == b':' => number(&bytes[6..])?,
        _ => return None,
    };
    if bytes[2] != b':' {
        return None;
    }
    let micros = fraction.map_or(Some(0), micros)?;
    NaiveTime::from_hms_micro_opt(number(&bytes[..2])?, number(&bytes[3..5])?, seconds, micros)
}

fn micros(fraction: &str) -> Option<u32> {
    let is_fraction =
        (1..=12).contains(&fraction.len()) && fraction.bytes().all(|digit| digit.is_ascii_digit());
    if !is_fraction {
        return None;
    }
    let kept = &fraction.as_bytes()[..fraction.len().min(6)];
    Some(number(kept)? * 10u32.pow(6 - kept.len() as u32))
}

/// The unscaled value of a decimal; None if it has more digits than the type keeps.
pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let (whole, rest) = digits(text);
    let fraction = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_end_matches('0'),
        None if rest.is_empty() => "",
        None => return None,
    };
    let is_number =
        !text.trim_matches('.').is_empty() && fraction.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number || fraction.len() > scale {
        return None;
    }
    let unscaled: i128 = format!("0{whole}{fraction:0<scale$}").parse().ok()?;
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (unscaled < limit).then_some(sign * unscaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_name_something_are_not_numbers() {
        for text in [
            "007", "+49", "-01", "00.5", "1_000", "0x10", "1e", "", "-", ".", "1.2.3", " 1", "١",
        ] {
            assert!(!is_plain_number(text), "{text}");
        }
        for text in [
            "0",
            "-0",
            "7",
            "-7.25",
            ".5",
            "5.",
            "1e9",
            "2.5E-3",
            "99999999999999999999",
        ] {
            assert!(is_plain_number(text), "{text}");
        }
    }

    #[test]
    fn times_are_brought_to_utc() {
        let noon = timestamp("2026-03-01 12:00:00");
        assert_eq!(noon, Some(1_772_366_400_000_000));
        for text in [
            "2026-03-01T12:00",
            "2026-03-01T12:00:00Z",
            "2026-03-01T14:00:00+02:00",
            "2026-03-01 07:00:00.000-0500",
            "2026-03-01T12:00:00.0000009Z",
            "2026-03-01 13:00:00+01",
            "2026-03-01T12:00:00 +00:00",
        ] {
            assert_eq!(timestamp(text), noon, "{text}");
        }
        assert_eq!(timestamp("1969-12-31T23:59:59.999999"), Some(-1));
        for text in [
            "2026-02-30",
            "2026-03-01T24:00:00",
            "2026-03-01T12",
            "2026-03-01T12:60",
            "2026-03-01T12:00:60",
            "2026-3-1",
            "2026-03-01T12:00:00.",
            "2026-03-01T12:00:00+25:00",
            "2026-03-01T12:00:00+01:60",
            "2026-03-01X12:00",
            "20260301",
            "2026-03-0é",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(decimal("12.3", 5, 2), Some(1230));
        assert_eq!(decimal("-0.05", 5, 2), Some(-5));
        assert_eq!(decimal(".5", 5, 2), Some(50));
        assert_eq!(decimal("12.300", 5, 2), Some(1230));
        assert_eq!(decimal("0", 5, 0), Some(0));
        for text in ["12.345", "1000", "", "-", ".", "1e2", "abc", "1.2.3"] {
            assert_eq!(decimal(text, 5, 2), None, "{text}");
        }
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal(&"9".repeat(39), 38, 0), None);
    }

    #[test]
    fn whole_numbers_end_where_64_bits_end() {
        assert_eq!(whole("9223372036854775807"), Some(i64::MAX));
        assert_eq!(whole("12.0"), Some(12));
        for text in ["9223372036854775808", "12.5", "12.", "1e3", ""] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
