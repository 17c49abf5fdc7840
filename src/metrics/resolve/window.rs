//! When a metric counts: its window from a unit's first assignment, in which calendar, and which units count before it closed.
//! In: the spec. Out: [`Window`] and [`Maturity`], with a diagnostic for what cannot be.

use super::Resolver;
use crate::diagnostics::{Code, Diagnostic};
use crate::metrics::Duration;
use crate::metrics::metric::{Kind, Maturity, Window};
use crate::project::WindowSpec;
use crate::project::yaml::Spot;

impl Resolver<'_> {
    /// The window, which all kinds have that experiments can be analysed by.
    pub(super) fn measured_window(&mut self, kind: &Kind) -> Option<Window> {
        let spec = self.spec;
        if matches!(kind, Kind::Derived { .. } | Kind::Cumulative { .. }) {
            let keys = [
                ("window", spec.window.as_ref().map(|window| &window.span)),
                ("maturity", spec.maturity.as_ref().map(|word| &word.span)),
            ];
            for (key, span) in keys {
                if let Some(span) = span {
                    self.unsound(
                        format!(
                            "a {} metric is for dashboards, so `{key}` says nothing in `{}`",
                            kind.word(),
                            self.name()
                        ),
                        span,
                        "remove it",
                    );
                }
            }
            return Some(Window::default());
        }
        let Some(window) = &spec.window else {
            self.needs(
                "window",
                "add `window: {start: 0d, length: 14d}`, from the unit's first assignment, or `length: to_end` for all of the period",
            );
            return None;
        };
        let window = self.window(window)?;
        let opens_at_once = window.start.seconds == 0;
        if matches!(kind, Kind::Retention { .. }) && opens_at_once {
            let span = &spec.window.as_ref().expect("it was just read").span;
            self.unsound(
                format!(
                    "the window of `{}` opens at once, so nobody has to come back",
                    self.name()
                ),
                span,
                "let it start later, such as `{start: 7d, length: 7d}`, or use `kind: proportion`",
            );
            return None;
        }
        Some(window)
    }

    pub(super) fn window(&mut self, spec: &WindowSpec) -> Option<Window> {
        let start = match &spec.start {
            None => Some(Duration::default()),
            Some(start) => self.duration(start),
        };
        let length = match &spec.length {
            None => {
                self.unsound(
                    format!("the window of `{}` has no length", self.name()),
                    &spec.span,
                    "add `length: 14d`, or `length: to_end` for all of the period",
                );
                None
            }
            Some(length) if length.value == "to_end" => Some(None),
            Some(length) => self.duration(length).map(Some),
        };
        if let (Some(Some(Duration { seconds: 0 })), Some(spot)) = (length, &spec.length) {
            self.unsound(
                "a window of no length holds no event".to_string(),
                &spot.span,
                "give it a length such as `14d`, or `to_end` for all of the period",
            );
            return None;
        }
        let calendar = self.calendar(spec, [start, length.flatten()]);
        Some(Window {
            start: start?,
            length: length?,
            calendar: calendar?,
        })
    }

    /// A zone that exists, over whole days.
    fn calendar(
        &mut self,
        spec: &WindowSpec,
        lengths: [Option<Duration>; 2],
    ) -> Option<Option<String>> {
        let Some(zone) = &spec.calendar else {
            return Some(None);
        };
        if !crate::sql::is_time_zone(zone) {
            self.unsound(
                format!("`{}` is not a time zone", zone.value),
                &zone.span,
                "write its name as in `Europe/Berlin`, or `UTC`",
            );
            return None;
        }
        if lengths
            .into_iter()
            .flatten()
            .any(|length| length.seconds % 86_400 != 0)
        {
            self.unsound(
                "a calendar has whole days only".to_string(),
                &spec.span,
                "write start and length in days, or leave `calendar` out for lengths of time",
            );
            return None;
        }
        Some(Some(zone.value.clone()))
    }

    /// Which units count before their window closed.
    pub(super) fn maturity(&mut self, kind: &Kind, window: Option<&Window>) -> Option<Maturity> {
        let spec = self.spec;
        let words = [
            ("full_window", Maturity::FullWindow),
            ("partial", Maturity::Partial),
        ];
        let window = window?;
        if matches!(kind, Kind::Derived { .. } | Kind::Cumulative { .. }) {
            return Some(Maturity::Partial);
        }
        if window.length.is_none() {
            let spot = spec.maturity.as_ref();
            if let Some(spot) = spot.filter(|spot| spot.value == "full_window") {
                self.unsound(
                    format!(
                        "the window of `{}` never closes before the end",
                        self.name()
                    ),
                    &spot.span,
                    "give it a length, or write `maturity: partial`",
                );
                return None;
            }
            return match spot {
                None => Some(Maturity::Partial),
                Some(_) => self.word(&spec.maturity, "maturity", &words),
            };
        }
        if spec.maturity.is_none() {
            self.needs(
                "maturity",
                "add `maturity: full_window`, so that a unit counts once its window has closed, or `maturity: partial`, so that it counts at once with what it has",
            );
            return None;
        }
        self.word(&spec.maturity, "maturity", &words)
    }

    pub(super) fn duration(&mut self, text: &Spot<String>) -> Option<Duration> {
        let duration = Duration::parse(text);
        if duration.is_none() {
            let [message, hint] = Duration::fault(text);
            self.diagnostics.push(
                Diagnostic::error(Code::E0106, message)
                    .at(text.span.clone())
                    .hint(hint),
            );
        }
        duration
    }
}
