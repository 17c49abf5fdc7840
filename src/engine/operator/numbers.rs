//! Numbers as the kernel wants them: whole, so that sums of them are exact in any order.
//! In: numbers of value columns. Out: hundredths of decimals, and what stands for NULL.

/// Values up to here, once scaled to whole numbers, take the fast way: their products stay far below 2^53.
pub const LARGEST_WHOLE: f64 = (1u64 << 24) as f64;

/// Decimals with two places become whole numbers.
pub const SCALE: f64 = 100.0;

/// A decimal number as the kernel wants it: hundredths, whole whenever the number has at most two decimal places.
#[inline(always)]
pub fn scaled(value: f64) -> f64 {
    let hundredths = value * SCALE;
    let whole = nearest_whole(hundredths);
    if whole / SCALE == value {
        whole
    } else {
        hundredths
    }
}

/// The nearest whole number of a number below 2^51; of others, something else.
// Adding 1.5 x 2^52 leaves no bits for a fraction. `round` and `trunc` are function calls on processors without SSE 4.1.
#[inline(always)]
pub fn nearest_whole(value: f64) -> f64 {
    const NO_FRACTION: f64 = 1.5 * (1u64 << 52) as f64;
    (value + NO_FRACTION) - NO_FRACTION
}

/// Whether a row can hold the number.
#[inline(always)]
pub fn fits(value: f64) -> bool {
    value.abs() <= LARGEST_WHOLE && value == nearest_whole(value)
}

/// NULL in a value column: a NaN with a payload of its own, so that a NaN in the data is still seen.
pub const NULL: f64 = f64::from_bits(0x7ff8_0000_dead_0001);

#[inline(always)]
pub fn is_null(value: f64) -> bool {
    value.to_bits() == NULL.to_bits()
}
