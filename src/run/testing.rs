//! Data tests: when a count of wrong rows is a failure, and which tests need not run again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::manifest::{TestSettings, TestSeverity};
use crate::run::results::Outcome;

/// What a count of failing rows means under a test's settings.
pub(super) fn verdict(failures: i64, settings: &TestSettings) -> Outcome {
    let is_error = settings.severity == TestSeverity::Error && holds(failures, &settings.error_if);
    match (is_error, holds(failures, &settings.warn_if)) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Warned,
        (false, false) => Outcome::Done,
    }
}

/// `!= 0`, `> 10`, `between 1 and 5`; the syntax was checked when the manifest was resolved.
fn holds(failures: i64, comparison: &str) -> bool {
    let words: Vec<&str> = comparison.split_whitespace().collect();
    if let ["between" | "BETWEEN", low, _, high] = words[..] {
        let (low, high) = (
            low.parse().unwrap_or(i64::MIN),
            high.parse().unwrap_or(i64::MAX),
        );
        return (low..=high).contains(&failures);
    }
    let text = words.concat();
    let operator: String = text
        .chars()
        .take_while(|character| "=!<>".contains(*character))
        .collect();
    let number: i64 = text[operator.len()..].parse().unwrap_or(0);
    match operator.as_str() {
        "=" => failures == number,
        "<" => failures < number,
        "<=" => failures <= number,
        ">" => failures > number,
        ">=" => failures >= number,
        _ => failures != number,
    }
}

/// Fingerprints of tests that found nothing. A fingerprint covers the test's query and all the data it reads, so it
/// stays true for ever; losing the file only costs the tests another run.
#[derive(Debug, Default)]
pub struct PassedTests {
    path: PathBuf,
    fingerprints: BTreeSet<String>,
}

impl PassedTests {
    pub fn load(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self {
            path,
            fingerprints: text.lines().map(ToString::to_string).collect(),
        }
    }

    pub fn contains(&self, fingerprint: &str) -> bool {
        self.fingerprints.contains(fingerprint)
    }

    /// Keeps only these, so that the file does not grow with history.
    pub fn replace(&mut self, fingerprints: BTreeSet<String>) -> std::io::Result<()> {
        if fingerprints == self.fingerprints {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text: String = fingerprints
            .iter()
            .map(|fingerprint| format!("{fingerprint}\n"))
            .collect();
        let temporary = self.path.with_extension("new");
        std::fs::write(&temporary, text)?;
        std::fs::rename(&temporary, &self.path)?;
        self.fingerprints = fingerprints;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_dbts() {
        let settings = |severity, error_if: &str, warn_if: &str| TestSettings {
            severity,
            error_if: error_if.to_string(),
            warn_if: warn_if.to_string(),
            ..TestSettings::default()
        };
        assert_eq!(verdict(0, &TestSettings::default()), Outcome::Done);
        assert_eq!(verdict(1, &TestSettings::default()), Outcome::Failed);
        assert_eq!(
            verdict(5, &settings(TestSeverity::Warn, "!= 0", "!= 0")),
            Outcome::Warned
        );
        assert_eq!(
            verdict(5, &settings(TestSeverity::Error, "> 10", "!= 0")),
            Outcome::Warned
        );
        assert_eq!(
            verdict(3, &settings(TestSeverity::Error, "between 1 and 5", "!= 0")),
            Outcome::Failed
        );
    }
}
