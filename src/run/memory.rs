//! Sizes as people write them: `1GB`, `512 MiB`.

/// Bytes, or none when the text is no size.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let split = text
        .find(|character: char| character.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let number: f64 = text[..split]
        .trim()
        .parse()
        .ok()
        .filter(|number: &f64| *number > 0.0)?;
    let unit = match text[split..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * unit) as usize)
}

/// A size for people, to a tenth of its unit.
pub(super) fn text(bytes: usize) -> String {
    let bytes = bytes as f64;
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let fitting = units.into_iter().find(|(_, size)| bytes >= *size);
    let (name, size) = fitting.unwrap_or(("B", 1.0));
    format!("{} {name}", (bytes / size * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::{bytes, text};

    #[test]
    fn sizes_are_told_to_a_tenth() {
        let told = [25_000_000, 1_572_864, 999, 1_073_741_824].map(text);
        assert_eq!(told, ["25 MB", "1.6 MB", "999 B", "1.1 GB"]);
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(bytes("1GB"), Some(1_000_000_000));
        assert_eq!(bytes("1.5 MiB"), Some(1_572_864));
        assert_eq!(bytes("lots"), None);
        assert_eq!(bytes("-1GB"), None);
    }
}
