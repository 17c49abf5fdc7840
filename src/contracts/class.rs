//! How grave a change is, which step of the version it needs, and who must agree.

use std::fmt;

/// How grave a change is, from nothing to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    None,
    Cosmetic,
    People,
    Additive,
    Method,
    Decision,
    /// The plan differs and no rows were found on which the numbers do.
    Unproven,
    Breaking,
    AssumptionLost,
}

/// The step of the version that a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bump {
    None,
    Patch,
    Minor,
    Major,
}

/// Who must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Approval {
    Owner,
    NewOwner,
    Analyst,
    Approvers,
}

impl Class {
    pub fn bump(self) -> Bump {
        match self {
            Class::None | Class::Cosmetic => Bump::None,
            Class::People => Bump::Patch,
            Class::Additive | Class::Method => Bump::Minor,
            Class::Decision | Class::Unproven | Class::Breaking | Class::AssumptionLost => {
                Bump::Major
            }
        }
    }

    pub fn approvals(self) -> &'static [Approval] {
        match self {
            Class::None | Class::Cosmetic => &[],
            Class::People => &[Approval::Owner, Approval::NewOwner],
            Class::Additive | Class::Unproven => &[Approval::Owner],
            Class::Method => &[Approval::Owner, Approval::Analyst],
            Class::Decision | Class::Breaking | Class::AssumptionLost => {
                &[Approval::Owner, Approval::Approvers]
            }
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Class::None => "none",
            Class::Cosmetic => "cosmetic",
            Class::People => "people",
            Class::Additive => "additive",
            Class::Method => "method",
            Class::Decision => "decision",
            Class::Unproven => "unproven",
            Class::Breaking => "breaking",
            Class::AssumptionLost => "assumption lost",
        }
    }
}

impl Bump {
    pub fn word(self) -> &'static str {
        match self {
            Bump::None => "none",
            Bump::Patch => "patch",
            Bump::Minor => "minor",
            Bump::Major => "major",
        }
    }

    /// The lowest version after this step; a version that is not `major.minor.patch` has no next one.
    pub fn next(self, version: &str) -> Option<String> {
        let [major, minor, patch] = numbers(version)?;
        Some(match self {
            Bump::None => version.to_string(),
            Bump::Patch => format!("{major}.{minor}.{}", patch + 1),
            Bump::Minor => format!("{major}.{}.0", minor + 1),
            Bump::Major => format!("{}.0.0", major + 1),
        })
    }

    /// Whether `new` is at least this step above `old`.
    pub fn is_taken(self, old: &str, new: &str) -> bool {
        let wanted = self.next(old).and_then(|version| numbers(&version));
        match (wanted, numbers(new)) {
            (Some(wanted), Some(new)) => new >= wanted,
            _ => self == Bump::None || old != new,
        }
    }
}

fn numbers(version: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = version
        .split('.')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    numbers.try_into().ok()
}

impl Approval {
    pub fn words(self) -> &'static str {
        match self {
            Approval::Owner => "the owner",
            Approval::NewOwner => "the new owner",
            Approval::Analyst => "an analyst",
            Approval::Approvers => "the approvers",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}
