//! Results as named fields: what lets SQL, JSON and the tests list the fields of a result without knowing its type.
//! In: a result struct declared with [`record!`]. Out: its field names, their kinds, and a walk over the values.
//! What a field becomes (an Arrow column, a JSON member) is left to the [`Sink`].

use super::status::Status;

/// What a field can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Whole,
    Flag,
    Text,
    Numbers,
}

/// Receives the fields of a record in their order; `column` is the position of the field.
pub trait Sink {
    fn number(&mut self, column: usize, value: Option<f64>);
    fn whole(&mut self, column: usize, value: Option<i64>);
    fn flag(&mut self, column: usize, value: Option<bool>);
    fn text(&mut self, column: usize, value: &'static str);
    fn numbers(&mut self, column: usize, values: &[f64]);
}

/// A result with named fields.
pub trait Record {
    const FIELDS: &'static [(&'static str, Kind)];
    fn write(&self, sink: &mut impl Sink);
    fn status(&self) -> Status;
}

/// A type that can stand in a record.
pub trait Field {
    const KIND: Kind;
    fn write(&self, column: usize, sink: &mut impl Sink);
}

/// The fields of a record that may be missing.
pub type Number = Option<f64>;

impl Field for f64 {
    const KIND: Kind = Kind::Number;
    #[inline]
    fn write(&self, column: usize, sink: &mut impl Sink) {
        sink.number(column, Some(*self));
    }
}

impl Field for Option<f64> {
    const KIND: Kind = Kind::Number;
    #[inline]
    fn write(&self, column: usize, sink: &mut impl Sink) {
        sink.number(column, *self);
    }
}

impl Field for Option<i64> {
    const KIND: Kind = Kind::Whole;
    #[inline]
    fn write(&self, column: usize, sink: &mut impl Sink) {
        sink.whole(column, *self);
    }
}

impl Field for Option<bool> {
    const KIND: Kind = Kind::Flag;
    #[inline]
    fn write(&self, column: usize, sink: &mut impl Sink) {
        sink.flag(column, *self);
    }
}

impl Field for Vec<f64> {
    const KIND: Kind = Kind::Numbers;
    #[inline]
    fn write(&self, column: usize, sink: &mut impl Sink) {
        sink.numbers(column, self);
    }
}

impl Field for Status {
    const KIND: Kind = Kind::Text;
    #[inline]
    fn write(&self, column: usize, sink: &mut impl Sink) {
        sink.text(column, self.name());
    }
}

/// `Some` for a finite number: an infinity or NaN must not look like a result. Adding 0 makes -0 (the logarithm of p = 1) a plain 0.
#[inline]
pub(crate) fn finite(value: f64) -> Number {
    value.is_finite().then_some(value + 0.0)
}

/// Declares a result struct; its last field is always `status: Status`, and `Default` is the empty result.
macro_rules! record {
    ($(#[$outer:meta])* pub struct $name:ident { $($(#[$inner:meta])* $field:ident : $kind:ty),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$inner])* pub $field: $kind,)+
            /// Which fields to believe.
            pub status: $crate::stats::status::Status,
        }

        impl $crate::stats::record::Record for $name {
            const FIELDS: &'static [(&'static str, $crate::stats::record::Kind)] = &[
                $((stringify!($field), <$kind as $crate::stats::record::Field>::KIND),)+
                ("status", $crate::stats::record::Kind::Text),
            ];

            #[inline]
            fn write(&self, sink: &mut impl $crate::stats::record::Sink) {
                let mut column = 0;
                $($crate::stats::record::Field::write(&self.$field, column, sink);
                column += 1;)+
                $crate::stats::record::Field::write(&self.status, column, sink);
            }

            fn status(&self) -> $crate::stats::status::Status {
                self.status
            }
        }

        impl $name {
            /// The result that holds nothing but the reason.
            pub fn empty(status: $crate::stats::status::Status) -> Self {
                Self { status, ..Self::default() }
            }
        }
    };
}
pub(crate) use record;
