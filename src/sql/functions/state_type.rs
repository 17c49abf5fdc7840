//! The mergeable state as an Arrow struct. In: states or struct arrays. Out: the other of the two.
//! The fields per value are lists, so one type holds any number of values per unit:
//! `{n, nulls, non_finite, min, max, mean, mean_low, cross_products}`.

use crate::stats::double_double::DoubleDouble;
use crate::stats::sample::{Moments, Sample};
use crate::stats::state::State;
use crate::stats::status::Status;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, Int64Builder, ListArray,
    ListBuilder, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use std::sync::{Arc, LazyLock};

/// The Arrow type of a state.
pub fn state_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

/// Whether a type has the fields of a state, whatever their order and their exact number types.
pub(super) fn is_state(kind: &DataType) -> bool {
    let DataType::Struct(found) = kind else {
        return false;
    };
    FIELDS
        .iter()
        .all(|field| found.iter().any(|other| other.name() == field.name()))
}

/// Writes states; `None` becomes a NULL struct.
pub(super) fn write_states(states: &[Option<State>]) -> Result<StructArray> {
    let mut counts = [0; 3].map(|_| Int64Builder::with_capacity(states.len()));
    let mut lists = [0; 5].map(|_| ListBuilder::new(Float64Builder::new()));
    for state in states {
        match state {
            Some(state) => append(state, &mut counts, &mut lists)?,
            None => {
                counts.iter_mut().for_each(Int64Builder::append_null);
                lists.iter_mut().for_each(ListBuilder::append_null);
            }
        }
    }
    let validity = states.iter().map(Option::is_some).collect::<Vec<bool>>();
    let mut columns: Vec<ArrayRef> = counts
        .iter_mut()
        .map(|column| Arc::new(column.finish()) as ArrayRef)
        .collect();
    columns.extend(
        lists
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef),
    );
    Ok(StructArray::try_new(
        FIELDS.clone(),
        columns,
        Some(validity.into()),
    )?)
}

fn append(
    state: &State,
    counts: &mut [Int64Builder; 3],
    lists: &mut [ListBuilder<Float64Builder>; 5],
) -> Result<()> {
    for (column, count) in counts
        .iter_mut()
        .zip([state.n, state.nulls, state.non_finite])
    {
        column.append_value(
            i64::try_from(count).map_err(|_| {
                exec_datafusion_err!("a state of {count} units does not fit a bigint")
            })?,
        );
    }
    // A state of no unit has no least and no greatest value.
    let limit = |value: &f64| value.is_finite().then_some(*value);
    let [min, max, mean, mean_low, cross_products] = lists;
    min.append_value(state.min.iter().map(limit));
    max.append_value(state.max.iter().map(limit));
    mean.append_value(state.mean.iter().map(|mean| Some(mean.high)));
    mean_low.append_value(state.mean.iter().map(|mean| Some(mean.low)));
    cross_products.append_value(state.cross_products.iter().map(|product| Some(*product)));
    Ok(())
}

/// A column of states, opened once per batch and read row by row without allocation.
#[derive(Debug)]
pub(super) struct States<'a> {
    structs: &'a StructArray,
    n: &'a Int64Array,
    nulls: &'a Int64Array,
    non_finite: &'a Int64Array,
    min: Values<'a>,
    max: Values<'a>,
    mean: Values<'a>,
    mean_low: Values<'a>,
    cross_products: Values<'a>,
}

impl<'a> States<'a> {
    pub fn open(array: &'a ArrayRef) -> Result<Self> {
        let structs = array
            .as_struct_opt()
            .ok_or_else(|| exec_datafusion_err!("expected a state, got {}", array.data_type()))?;
        Self::open_struct(structs)
    }

    pub fn open_struct(structs: &'a StructArray) -> Result<Self> {
        let count = |name: &str| -> Result<&'a Int64Array> {
            let column = structs.column_by_name(name).ok_or_else(|| missing(name))?;
            column
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| missing(name))
        };
        let values = |name: &str| {
            Values::open(
                structs.column_by_name(name).ok_or_else(|| missing(name))?,
                name,
            )
        };
        Ok(Self {
            structs,
            n: count("n")?,
            nulls: count("nulls")?,
            non_finite: count("non_finite")?,
            min: values("min")?,
            max: values("max")?,
            mean: values("mean")?,
            mean_low: values("mean_low")?,
            cross_products: values("cross_products")?,
        })
    }

    pub fn len(&self) -> usize {
        self.structs.len()
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.structs.is_null(row)
    }

    /// The state in full; a NULL is the state of no unit.
    pub fn state(&self, row: usize) -> State {
        if self.is_null(row) {
            return State::default();
        }
        let means = self.mean.of(row).iter().zip(self.mean_low.of(row));
        State {
            n: unsigned(self.n.value(row)),
            nulls: unsigned(self.nulls.value(row)),
            non_finite: unsigned(self.non_finite.value(row)),
            min: self.min.of_or(row, f64::INFINITY),
            max: self.max.of_or(row, f64::NEG_INFINITY),
            mean: means
                .map(|(high, low)| DoubleDouble {
                    high: *high,
                    low: *low,
                })
                .collect(),
            cross_products: self.cross_products.of(row).to_vec(),
        }
    }

    /// The first value of a state; a NULL is a sample of no unit.
    #[inline]
    pub fn sample(&self, row: usize) -> std::result::Result<Sample, Status> {
        if self.is_null(row) || self.n.value(row) == 0 {
            return Ok(Sample::new(0.0, 0.0, f64::NAN));
        }
        self.check(row, 1)?;
        let n = self.n.value(row) as f64;
        let mean = DoubleDouble {
            high: self.mean.of(row)[0],
            low: self.mean_low.of(row)[0],
        };
        Ok(Sample {
            n,
            mean,
            variance: DoubleDouble::from(self.cross_products.of(row)[0]) / (n - 1.0),
        })
    }

    /// The first P values of a state; a NULL has no unit.
    #[inline]
    pub fn moments<const P: usize>(&self, row: usize) -> std::result::Result<Moments<P>, Status> {
        let mut moments = Moments {
            n: 0.0,
            mean: [DoubleDouble::ZERO; P],
            cross_products: [[DoubleDouble::ZERO; P]; P],
        };
        if self.is_null(row) || self.n.value(row) == 0 {
            return Ok(moments);
        }
        self.check(row, P)?;
        moments.n = self.n.value(row) as f64;
        let (high, low, products) = (
            self.mean.of(row),
            self.mean_low.of(row),
            self.cross_products.of(row),
        );
        let width = high.len();
        for i in 0..P {
            moments.mean[i] = DoubleDouble {
                high: high[i],
                low: low[i],
            };
            for j in i..P {
                let product = DoubleDouble::from(products[i * width - i * (i + 1) / 2 + j]);
                moments.cross_products[i][j] = product;
                moments.cross_products[j][i] = product;
            }
        }
        Ok(moments)
    }

    fn check(&self, row: usize, width: usize) -> std::result::Result<(), Status> {
        if self.non_finite.value(row) > 0 {
            return Err(Status::NonFinite);
        }
        let found = self.mean.of(row).len();
        let is_whole = self.mean_low.of(row).len() == found
            && self.cross_products.of(row).len() == found * (found + 1) / 2;
        if found < width || !is_whole {
            Err(Status::WrongWidth)
        } else {
            Ok(())
        }
    }
}

/// A list column with its numbers laid open.
#[derive(Debug)]
pub(super) struct Values<'a> {
    list: &'a ListArray,
    numbers: &'a Float64Array,
}

impl<'a> Values<'a> {
    pub fn open(array: &'a ArrayRef, name: &str) -> Result<Self> {
        let list = array.as_list_opt::<i32>().ok_or_else(|| missing(name))?;
        let numbers = list
            .values()
            .as_primitive_opt::<Float64Type>()
            .ok_or_else(|| missing(name))?;
        Ok(Self { list, numbers })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.list.is_null(row)
    }

    /// The numbers of a row; what stands at a NULL is undefined.
    #[inline]
    pub fn of(&self, row: usize) -> &'a [f64] {
        let offsets = self.list.value_offsets();
        &self.numbers.values()[offsets[row] as usize..offsets[row + 1] as usize]
    }

    /// The numbers of a row with a substitute for NULLs.
    pub fn of_or(&self, row: usize, substitute: f64) -> Vec<f64> {
        let start = self.list.value_offsets()[row] as usize;
        let numbers = self.of(row).iter().enumerate();
        numbers
            .map(|(place, number)| {
                if self.numbers.is_null(start + place) {
                    substitute
                } else {
                    *number
                }
            })
            .collect()
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn missing(name: &str) -> DataFusionError {
    exec_datafusion_err!(
        "a state needs a field `{name}`; make states with state_agg, state_merge or state_of"
    )
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let count = |name: &str| Field::new(name, DataType::Int64, true);
    let list = |name: &str| Field::new(name, list_type(), true);
    Fields::from(vec![
        count("n"),
        count("nulls"),
        count("non_finite"),
        list("min"),
        list("max"),
        list("mean"),
        list("mean_low"),
        list("cross_products"),
    ])
});

/// A list of numbers.
pub(super) fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)))
}
