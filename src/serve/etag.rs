//! The ETag of a bulk answer.
//! In: the served set, the epoch, the context. Out: a tag that is equal only when the answer is: it covers the version of the
//! definitions, the instants they name, and every attribute of the context (a tag of the definitions alone would let a 304
//! serve another context's values).

use serde_json::{Map, Value};

use super::served::Served;

/// The tag as a number; [`text`] is how it is sent.
pub fn bulk_tag(served: &Served, epoch: usize, context: &Map<String, Value>) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(served.version.as_bytes());
    hasher.update(&[0, u8::from(served.strict_reasons)]);
    hasher.update(&(epoch as u64).to_le_bytes());
    let mut canonical = Vec::with_capacity(256);
    write_object(context, &mut canonical);
    hasher.update(&canonical);
    let hash = hasher.finalize();
    let first = hash.as_bytes().first_chunk();
    u128::from_be_bytes(*first.expect("the hash has 32 bytes"))
}

/// The tag with its quotes.
pub fn text(tag: u128) -> String {
    format!("\"{tag:032x}\"")
}

/// Whether an `If-None-Match` header names the tag. Weak comparison (RFC 9110, 13.1.2).
pub fn matches(header: &str, tag: &str) -> bool {
    header
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// Objects with their names sorted, so that the order in which a client writes attributes does not matter.
fn write_object(object: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut entries: Vec<(&String, &Value)> = object.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    out.push(b'{');
    for (name, value) in entries {
        write_text(name, out);
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => write_object(object, out),
        Value::Array(items) => {
            out.push(b'[');
            items.iter().for_each(|item| write_value(item, out));
            out.push(b']');
        }
        Value::String(text) => write_text(text, out),
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
    out.push(b',');
}

/// Length first: no text can imitate the punctuation around it.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
