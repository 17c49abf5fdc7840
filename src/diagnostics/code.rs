//! The table of codes. A code never changes its meaning; `docs/diagnostics.md` lists them for users.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $code:ident,)+) => {
        /// What kind of thing is wrong; the first two digits name the phase that finds it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $code,)+ }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$code,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$code => stringify!($code),)+ }
            }

            /// One line about the code, the same that `docs/diagnostics.md` prints.
            pub fn summary(self) -> &'static str {
                match self { $(Code::$code => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    // E01xx load: files and their shapes
    /// The project folder has no project file, or a file cannot be read.
    E0101,
    /// A YAML file is not well-formed.
    E0102,
    /// A YAML key is unknown.
    E0103,
    /// A YAML value has the wrong type.
    E0104,
    /// A required YAML key is missing.
    E0105,
    /// A YAML value is not one of those allowed.
    E0106,
    /// A text file is not valid UTF-8.
    E0107,
    /// A value given by `--vars`, or an option of the project file, cannot be used.
    E0108,
    /// A name cannot be used: only letters, digits and underscores, not starting with a digit.
    E0109,
    /// A definition in dbt's words was read with a loss.
    E0110,

    // E02xx resolve: names
    /// Two things have the same name.
    E0201,
    /// YAML describes something that does not exist.
    E0202,
    /// A template refers to a model or seed that does not exist.
    E0203,
    /// A template refers to a source table that does not exist.
    E0204,
    /// A data test names a test that does not exist, or gives it the wrong arguments.
    E0205,
    /// A metric refers to something that does not exist.
    E0206,
    /// An experiment refers to something that does not exist.
    E0207,
    /// Something that is disabled is used.
    E0208,

    // E03xx order: the graph and selections
    /// Models depend on each other in a circle.
    E0301,
    /// A selector matches nothing, or `--exclude` leaves nothing.
    E0302,
    /// A selector cannot be read.
    E0303,

    // E04xx compile: templates, SQL and the data it reads
    /// A template is not well-formed.
    E0401,
    /// A template failed while it was rendered.
    E0402,
    /// A template raised an error on purpose.
    E0403,
    /// A variable is not set.
    E0404,
    /// SQL does not parse.
    E0405,
    /// SQL names a column that does not exist.
    E0406,
    /// SQL names a table that does not exist.
    E0407,
    /// SQL does not type-check, or has a clause that would be ignored.
    E0408,
    /// A model is empty or holds more than one statement.
    E0409,
    /// A source or seed file is missing.
    E0410,
    /// A source or seed file cannot be read as what it should be.
    E0411,
    /// A source or seed file holds no rows.
    E0412,
    /// A number in a source or seed file is not finite, or a value does not fit its declared type.
    E0413,
    /// A declared column is missing from a source or seed file.
    E0414,
    /// A model reads a relation without `ref` or `source`.
    E0415,
    /// How a table grows, or how its rows lie, does not fit its columns.
    E0416,
    /// A constant in SQL cannot be computed.
    E0417,

    // E05xx contracts
    /// A declared column does not exist in the model.
    E0501,
    /// A column has another type than its contract declares.
    E0502,
    /// A metric's meaning differs from what is locked.
    E0503,
    /// Two metrics mean the same.
    E0504,
    /// `metrics.lock` cannot be read.
    E0505,
    /// A metric is not locked, or one that is locked is gone.
    E0506,
    /// Two metrics differ by one condition alone.
    E0507,
    /// A model computes a metric by hand.
    E0508,
    /// An enforced contract does not declare a column or its type.
    E0509,
    /// Nothing shows that rows have the grain that their contract promises.
    E0510,
    /// A version of a metric that a running experiment started with cannot be had any more.
    E0511,

    // E06xx unsound metrics, experiments and flags
    /// A metric is not sound.
    E0601,
    /// A metric has no owner.
    E0602,
    /// The shares of an experiment's variants do not add up.
    E0603,
    /// An experiment is not sound.
    E0604,
    /// The dates of an experiment are wrong.
    E0605,
    /// A flag is not sound.
    E0606,
    /// The hierarchy of metrics is not sound.
    E0607,

    // E07xx governance
    /// A policy of the project is not met.
    E0701,
    /// An approval is missing.
    E0702,

    // E08xx execute
    /// The engine failed while a step ran.
    E0801,
    /// A data test failed.
    E0802,
    /// A step needs a relation that was never built in this environment.
    E0803,
    /// The data of a metric are not as new or as complete as its SLA promises.
    E0804,
    /// A step needs more memory than the limit allows.
    E0805,
    /// The newest row of a source is older than its freshness allows.
    E0806,

    // E09xx storage
    /// The warehouse, or another file that the program makes, cannot be read or written.
    E0901,
    /// Another build holds the environment.
    E0902,
    /// The disk is full.
    E0903,
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
