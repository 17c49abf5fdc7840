//! Semantic versions as texts whose byte order is the order of precedence.
//! One representation serves the server, the SQL function and plain SQL, so that none can sort differently.

use semver::Version;

/// The sortable key of a version, or nothing where the text is none. A leading `v` and missing minor or patch numbers
/// are accepted (`v3.2` is `3.2.0`); build metadata does not count (SemVer 2.0, clause 10).
///
/// Each number is its decimal digits after a letter that says how many they are (`a` = one), so longer numbers sort
/// later; a release ends in `~`, which sorts after every pre-release (clause 11).
pub fn version_key(text: &str) -> Option<String> {
    let version = parse(text)?;
    let mut key = String::with_capacity(16);
    for (separator, number) in [
        ("", version.major),
        (".", version.minor),
        (".", version.patch),
    ] {
        key.push_str(separator);
        push_number(&mut key, &number.to_string());
    }
    match version.pre.as_str() {
        "" => key.push('~'),
        identifiers => identifiers
            .split('.')
            .for_each(|identifier| push_identifier(&mut key, identifier)),
    }
    Some(key)
}

/// The version that a key was made from, in its full form.
pub fn version_text(key: &str) -> String {
    let mut parts = key.trim_end_matches('~').split('!');
    let numbers: Vec<&str> = parts
        .next()
        .unwrap_or("")
        .split('.')
        .map(without_first)
        .collect();
    let identifiers: Vec<&str> = parts
        .map(|part| {
            if part.starts_with('0') {
                without_first(without_first(part))
            } else {
                without_first(part)
            }
        })
        .collect();
    let separator = if identifiers.is_empty() { "" } else { "-" };
    format!("{}{separator}{}", numbers.join("."), identifiers.join("."))
}

fn without_first(text: &str) -> &str {
    text.get(1..).unwrap_or("")
}

fn parse(text: &str) -> Option<Version> {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    Version::parse(text)
        .ok()
        .or_else(|| Version::parse(&padded(text)?).ok())
}

/// `3` and `3.2` with the missing zeros, also before `-` or `+`.
fn padded(text: &str) -> Option<String> {
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    match numbers.split('.').count() {
        1 => Some(format!("{numbers}.0.0{rest}")),
        2 => Some(format!("{numbers}.0{rest}")),
        _ => None,
    }
}

/// `!` sorts before every character of an identifier, so a shorter list of identifiers comes first; `0` before `1`
/// puts numbers before names (clause 11.4).
fn push_identifier(key: &mut String, identifier: &str) {
    key.push('!');
    if identifier.bytes().all(|byte| byte.is_ascii_digit()) {
        key.push('0');
        push_number(key, identifier);
    } else {
        key.push('1');
        key.push_str(identifier);
    }
}

fn push_number(key: &mut String, digits: &str) {
    // At most 20 digits in a u64; a longer pre-release number saturates at `z` and then sorts by its digits.
    let length = digits.len().clamp(1, 26) as u8;
    key.push(char::from(b'a' + length - 1));
    key.push_str(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_versions_do() {
        let ordered = [
            "0.0.0-0",
            "0.0.9",
            "0.1.0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.2.0",
            "1.10.0",
            "2.0.0-1",
            "2.0.0-a-b",
            "2.0.0-a.b",
            "2.0.0",
            "10.0.0",
            "18446744073709551615.0.0",
        ];
        for pair in ordered.windows(2) {
            let expected = Version::parse(pair[0])
                .unwrap()
                .cmp_precedence(&Version::parse(pair[1]).unwrap());
            assert_eq!(
                version_key(pair[0])
                    .map(|key| version_text(&key))
                    .as_deref(),
                Some(pair[0])
            );
            assert_eq!(
                version_key(pair[0]).cmp(&version_key(pair[1])),
                expected,
                "{pair:?}"
            );
        }
    }

    #[test]
    fn short_and_prefixed_versions_are_read() {
        assert_eq!(version_key("v3.2"), version_key("3.2.0+build.7"));
        assert_eq!(version_key("3-rc.1"), version_key("3.0.0-rc.1"));
        assert_eq!(version_key(""), None);
        assert_eq!(version_key("1.2.3.4"), None);
        assert_eq!(version_key("latest"), None);
    }
}
