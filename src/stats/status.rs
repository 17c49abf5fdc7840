//! Why a number is there or is not. In: nothing. Out: [`Status`], which stands in every result instead of magic numbers.

use std::fmt;

/// What a result is worth. Anything but `Ok` leaves the fields that make no sense empty (SQL: NULL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Every field holds what its name says.
    #[default]
    Ok,
    /// Fewer observations than the method needs (a variance needs two per arm).
    InsufficientData,
    /// No arm varies: effect and standard error are given, but a test has no distribution to refer to.
    ZeroVariance,
    /// A relative effect was asked for over a baseline of zero (or, for logarithms, not above zero).
    ZeroBaseline,
    /// The confidence set is not an interval: the baseline cannot be told from zero (Fieller's g >= 1).
    Unbounded,
    /// One arm holds no observation at all.
    OneArmMissing,
    /// A parameter is outside its domain: alpha not in (0, 1), a negative variance, shares that do not fit the counts.
    InvalidInput,
    /// An observation was NaN or infinite; `non_finite` of the state says how many.
    NonFinite,
    /// An observation was NULL although the metric declares `nulls: fail`.
    NullsPresent,
    /// The states hold fewer or more values per unit than the method reads.
    WrongWidth,
    /// The result is beyond the largest binary64 number.
    Overflow,
}

impl Status {
    /// The name used in SQL, JSON and YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InsufficientData => "insufficient_data",
            Self::ZeroVariance => "zero_variance",
            Self::ZeroBaseline => "zero_baseline",
            Self::Unbounded => "unbounded",
            Self::OneArmMissing => "one_arm_missing",
            Self::InvalidInput => "invalid_input",
            Self::NonFinite => "non_finite",
            Self::NullsPresent => "nulls_present",
            Self::WrongWidth => "wrong_width",
            Self::Overflow => "overflow",
        }
    }

    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
