//! Fixed lengths of time: `14d`, `6h`, `30m`, `45s`, `2w`. A day is 24 hours; calendar days need a zone and are no duration.

use serde::{Deserialize, Serialize};

/// A length of time in whole seconds, in files as `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Duration {
    pub seconds: i64,
}

impl Duration {
    /// Fifty years: so much before or after any instant of an experiment is a timestamp.
    pub const MOST: Self = Self {
        seconds: 18_250 * 86_400,
    };

    /// `None` for what is no length, or more than [`Duration::MOST`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::any(text).filter(|length| *length <= Self::MOST)
    }

    /// What is wrong with a text that is no length, and what to write instead.
    pub fn fault(text: &str) -> [String; 2] {
        match Self::any(text) {
            Some(_) => [
                format!("`{text}` is too long"),
                format!("write at most `{}`, which is fifty years", Self::MOST),
            ],
            None => [
                format!("`{text}` is not a length of time"),
                "write it like `14d`, `6h`, `30m` or `45s`".to_string(),
            ],
        }
    }

    fn any(text: &str) -> Option<Self> {
        let text = text.trim();
        let at = text.find(|character: char| character.is_ascii_alphabetic())?;
        let number = text[..at].trim();
        let number = number.strip_prefix('+').unwrap_or(number);
        if number.is_empty() || !number.chars().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let unit = match &text[at..] {
            "w" => 7 * 86_400,
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        // However long it is, it is a length.
        let number: i64 = number.parse().unwrap_or(i64::MAX);
        Some(Self {
            seconds: number.saturating_mul(unit),
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
        let [message, _] = Duration::fault(&text);
        Duration::parse(&text).ok_or(message)
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

#[cfg(test)]
mod tests {
    use super::Duration;

    #[test]
    fn lengths_are_whole_numbers_of_a_unit_up_to_fifty_years() {
        let seconds = |text| Duration::parse(text).map(|length| length.seconds);
        assert_eq!(seconds("2w"), Some(1_209_600));
        assert_eq!(seconds(" 18250d "), Some(Duration::MOST.seconds));
        for text in [
            "18251d",
            "400000000000w",
            "99999999999999999999999s",
            "9223372036854775807s",
        ] {
            assert_eq!(seconds(text), None, "{text}");
            assert!(
                Duration::fault(text)[1].contains("at most `18250d`"),
                "{text}"
            );
        }
        for text in ["d", "-1d", "+-1d", "1.5d", "1 y", "", "14", "1dd"] {
            assert_eq!(seconds(text), None, "{text}");
            assert!(Duration::fault(text)[1].contains("like `14d`"), "{text}");
        }
    }
}
