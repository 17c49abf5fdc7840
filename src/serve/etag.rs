//! The ETag of a bulk answer.
//! In: the served set, the epoch, the context. Out: a tag that is equal only when the answer is: it covers the version of the
//! definitions, the instants they name, and every attribute that a rule can ask for (a tag of the definitions alone would let a
//! 304 serve another context's values).

use super::served::Served;
use crate::flags::Context;

/// What all tags of a set begin with.
pub fn seed(version: &str, strict_reasons: bool) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(version.as_bytes());
    hasher.update(&[0, u8::from(strict_reasons)]);
    *hasher.finalize().as_bytes()
}

/// The tag as a number; [`text`] is how it is sent.
pub fn bulk_tag(served: &Served, epoch: usize, context: &Context) -> u128 {
    let mut covered = Vec::with_capacity(256);
    covered.extend_from_slice(&served.tag_seed);
    covered.extend_from_slice(&(epoch as u64).to_le_bytes());
    context.write_to(&mut covered);
    let hash = blake3::hash(&covered);
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
