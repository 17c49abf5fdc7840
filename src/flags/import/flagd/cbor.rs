//! A JSON value as canonical CBOR (RFC 7049, section 3.9), the input of `fractional` version 3.
//! Whole numbers that fit 64 bits are integers however they were written; floats take their shortest exact form; the
//! keys of a map are sorted by the length of their encoding, then by its bytes.

use half::f16;
use serde_json::{Number, Value as Json};

/// The encoding of a value.
pub fn encode(value: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, value);
    bytes
}

const UNSIGNED: u8 = 0x00;
const NEGATIVE: u8 = 0x20;
const TEXT: u8 = 0x60;
const LIST: u8 = 0x80;
const MAP: u8 = 0xA0;

fn write(bytes: &mut Vec<u8>, value: &Json) {
    match value {
        Json::Null => bytes.push(0xF6),
        Json::Bool(boolean) => bytes.push(0xF4 + u8::from(*boolean)),
        Json::Number(number) => write_number(bytes, number),
        Json::String(text) => {
            write_head(bytes, TEXT, text.len() as u64);
            bytes.extend(text.as_bytes());
        }
        Json::Array(items) => {
            write_head(bytes, LIST, items.len() as u64);
            items.iter().for_each(|item| write(bytes, item));
        }
        Json::Object(fields) => {
            write_head(bytes, MAP, fields.len() as u64);
            let mut pairs: Vec<(Vec<u8>, &Json)> = fields
                .iter()
                .map(|(key, value)| (encode(&Json::from(key.as_str())), value))
                .collect();
            pairs.sort_by(|left, right| (left.0.len(), &left.0).cmp(&(right.0.len(), &right.0)));
            for (key, value) in pairs {
                bytes.extend(key);
                write(bytes, value);
            }
        }
    }
}

fn write_number(bytes: &mut Vec<u8>, number: &Number) {
    let whole = number.as_i128().or_else(|| whole(number.as_f64()?));
    match whole {
        Some(whole @ 0..) => write_head(bytes, UNSIGNED, whole as u64),
        Some(whole) => write_head(bytes, NEGATIVE, (-1 - whole) as u64),
        None => write_float(bytes, number.as_f64().unwrap_or(f64::NAN)),
    }
}

fn whole(number: f64) -> Option<i128> {
    const LEAST: f64 = -9_223_372_036_854_775_808.0;
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    (number.fract() == 0.0 && (LEAST..BEYOND).contains(&number)).then_some(number as i128)
}

fn write_float(bytes: &mut Vec<u8>, number: f64) {
    let (half, single) = (f16::from_f64(number), number as f32);
    if half.to_f64() == number {
        bytes.push(0xF9);
        bytes.extend(half.to_be_bytes());
    } else if f64::from(single) == number {
        bytes.push(0xFA);
        bytes.extend(single.to_be_bytes());
    } else {
        bytes.push(0xFB);
        bytes.extend(number.to_be_bytes());
    }
}

/// The major type with its number in the shortest form.
fn write_head(bytes: &mut Vec<u8>, major: u8, number: u64) {
    let all = number.to_be_bytes();
    let (code, width) = match number {
        0..24 => (number as u8, 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    bytes.push(major | code);
    bytes.extend(&all[8 - width..]);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_rfc_8949_are_encoded() {
        let cases = [
            (json!(0), "00"),
            (json!(23), "17"),
            (json!(24), "1818"),
            (json!(1000), "1903e8"),
            (json!(1_000_000_000_000_u64), "1b000000e8d4a51000"),
            (json!(18_446_744_073_709_551_615_u64), "1bffffffffffffffff"),
            (json!(-1), "20"),
            (json!(-1000), "3903e7"),
            (json!(1.1), "fb3ff199999999999a"),
            (json!(1.5), "f93e00"),
            (json!(3.4028234663852886e38), "fa7f7fffff"),
            (json!(5.960464477539063e-8), "f90001"),
            (json!(-4.1), "fbc010666666666666"),
            (json!(false), "f4"),
            (json!(null), "f6"),
            (json!("ü"), "62c3bc"),
            (json!([1, [2, 3]]), "8201820203"),
            (json!({"aa": 2, "b": 1, "a": 3}), "a361610361620162616102"),
        ];
        for (value, hex) in cases {
            let written: String = encode(&value)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(written, hex, "{value}");
        }
    }
}
