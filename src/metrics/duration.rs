//! Fixed lengths of time: `14d`, `6h`, `30m`, `45s`, `2w`. A day is 24 hours; calendar days need a zone and are no duration.

use serde::{Deserialize, Serialize};

/// A length of time in whole seconds, in files as `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Duration {
    pub seconds: i64,
}

impl Duration {
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let at = text.find(|character: char| character.is_ascii_alphabetic())?;
        let number: i64 = text[..at]
            .trim()
            .parse()
            .ok()
            .filter(|number| *number >= 0)?;
        let unit = match &text[at..] {
            "w" => 7 * 86_400,
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        Some(Self {
            seconds: number.checked_mul(unit)?,
        })
    }

    /// `interval '14 days'`, in the largest unit that is exact.
    pub fn sql(self) -> String {
        let (number, unit) = match self.seconds {
            seconds if seconds % 86_400 == 0 => (seconds / 86_400, "days"),
            seconds if seconds % 3_600 == 0 => (seconds / 3_600, "hours"),
            seconds => (seconds, "seconds"),
        };
        format!("interval '{number} {unit}'")
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> String {
        duration.to_string()
    }
}

impl TryFrom<String> for Duration {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Duration::parse(&text).ok_or_else(|| format!("`{text}` is not a length of time"))
    }
}

impl std::fmt::Display for Duration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (number, unit) = match self.seconds {
            seconds if seconds % 86_400 == 0 => (seconds / 86_400, 'd'),
            seconds if seconds % 3_600 == 0 => (seconds / 3_600, 'h'),
            seconds if seconds % 60 == 0 => (seconds / 60, 'm'),
            seconds => (seconds, 's'),
        };
        write!(formatter, "{number}{unit}")
    }
}
