//! Memory limits: sizes as people write them (`1GB`, `512 MiB`), and what is said of work that met its limit.

use super::Prepared;
use crate::diagnostics::{Code, Diagnostic};

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

/// What to say if something has met the memory limit. The disk that sorts may spill to has a limit too, which is not this one.
pub fn exhausted(prepared: &Prepared, what: &str, message: &str) -> Option<Diagnostic> {
    let limit = prepared.engine.memory_limit?;
    let (steps, root) = causes(message);
    let reason = first_line(root.strip_prefix("Resources exhausted: ")?);
    if reason.contains("disk space") {
        return None;
    }
    let message = format!(
        "{what} does not fit into the memory limit of {}",
        text(limit)
    );
    let diagnostic =
        Diagnostic::error(Code::E0805, message).note(format!("the engine says: {reason}"));
    Some(match steps.iter().find(|step| step.contains("--memory-limit")) {
        Some(advice) => diagnostic.hint(*advice),
        None => diagnostic.hint(
            "allow more with `--memory-limit`, or `memory_limit` in the target of `project.yml`",
        ),
    })
}

/// The engine says first in which steps it failed, and then why.
pub(super) fn causes(message: &str) -> (Vec<&str>, &str) {
    let mut steps: Vec<&str> = message.split("\ncaused by\n").collect();
    let root = steps.pop().unwrap_or(message);
    (steps, root)
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
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
