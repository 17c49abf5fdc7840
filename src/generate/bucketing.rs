//! `md5-mod10000/1`: md5(salt || '-' || unit), first four bytes big-endian, modulo 10,000.

use md5::{Digest, Md5};

pub const ALGORITHM: &str = "md5-mod10000/1";

pub fn bucket(salt: &str, unit: &str) -> u16 {
    let mut hash = Md5::new();
    hash.update(salt.as_bytes());
    hash.update(b"-");
    hash.update(unit.as_bytes());
    let digest = hash.finalize();
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (head % 10_000) as u16
}
