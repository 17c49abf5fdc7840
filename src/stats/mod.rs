//! Statistics of experiments: states in, effects, tests, intervals and plans out.
//! In: binary64 numbers and mergeable [`state::State`]s. Out: result structs with named fields and a [`Status`].
//! Knows no SQL, no Arrow, no YAML, no clock and no random source but seeds; can be read beside a textbook.
//!
//! Numbers: [`double_double`], [`exact_sum`], [`double_sum`], [`moments`]. Distributions: [`tail`], [`normal`], [`student`], [`gamma`], [`beta`].

pub mod always_valid;
pub mod bayes;
pub mod beta;
pub mod calibration;
pub mod clusters;
pub mod corrections;
pub mod cuped;
pub mod cuped_multi;
pub mod distributions;
pub mod double_double;
pub mod double_sum;
pub mod exact_sum;
pub mod funnel;
pub mod gamma;
pub mod group_sequential;
pub mod heterogeneity;
pub mod lift;
pub mod linear;
pub mod mean_tests;
pub mod moments;
pub mod non_inferiority;
pub mod noncentral;
pub mod normal;
pub mod power;
pub mod proportions;
pub mod quadrature;
pub mod quantiles;
pub mod random;
pub mod ranks;
pub mod ratio;
pub mod record;
pub mod resampling;
pub mod sample;
pub mod sample_ratio;
pub mod state;
pub mod status;
pub mod strata;
pub mod student;
pub mod tail;

pub use record::{Kind, Record, Sink};
pub use status::Status;
pub use tail::Tail;
