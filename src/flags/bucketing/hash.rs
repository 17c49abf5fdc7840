//! The hash functions under the bucketing algorithms: parts of a text in, an integer out, nothing allocated.
//! The parts are hashed as if they were joined. Digests come from well-kept crates; FNV-1a is written here because
//! the published crate has no 32-bit form, and none of them hashes UTF-16 code units.

use std::hash::Hasher;

use md5::{Digest, Md5};
use mur3::Hasher32;
use sha1::Sha1;
use sha2::Sha256;

const FNV_OFFSET: u32 = 0x811C_9DC5;
const FNV_PRIME: u32 = 0x0100_0193;

/// The first four bytes of the MD5 digest, big-endian.
pub fn md5_32(parts: &[&str]) -> u32 {
    if let Some(block) = md5_block(parts) {
        let mut state = MD5_START;
        md5::block_api::compress(&mut state, &[block]);
        return state[0].swap_bytes();
    }
    let digest = digest::<Md5>(parts);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// MD5's state before the first block (RFC 1321, 3.3).
const MD5_START: [u32; 4] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];

/// A short input with its padding (RFC 1321, 3.1 and 3.2), which most salts and units are: the general way through a buffer costs a
/// third more.
fn md5_block(parts: &[&str]) -> Option<[u8; 64]> {
    const LENGTH_AT: usize = 56;
    let mut block = [0; 64];
    let mut end = 0;
    for part in parts {
        let place = block[..LENGTH_AT - 1].get_mut(end..end + part.len())?;
        place.copy_from_slice(part.as_bytes());
        end += part.len();
    }
    block[end] = 0x80;
    block[LENGTH_AT..].copy_from_slice(&(8 * end as u64).to_le_bytes());
    Some(block)
}

/// The first eight bytes of the SHA-256 digest, big-endian.
pub fn sha256_64(parts: &[&str]) -> u64 {
    first_eight(&digest::<Sha256>(parts))
}

/// The first fifteen hexadecimal digits of the SHA-1 digest.
pub fn sha1_60(parts: &[&str]) -> u64 {
    first_eight(&digest::<Sha1>(parts)) >> 4
}

/// MurmurHash3, x86, 32 bits, over UTF-8.
pub fn murmur3_32(parts: &[&str], seed: u32) -> u32 {
    let mut hasher = Murmur3::new(seed);
    parts.iter().for_each(|part| hasher.update(part.as_bytes()));
    hasher.finish()
}

/// MurmurHash3, x64, 128 bits: the lower half and the upper half.
pub fn murmur3_128(text: &str, seed: u32) -> (u64, u64) {
    mur3::murmurhash3_x64_128(text.as_bytes(), seed)
}

/// FNV-1a, 32 bits, over UTF-8.
pub fn fnv1a_32(parts: &[&str]) -> u32 {
    fnv(parts.iter().flat_map(|part| part.bytes()).map(u32::from))
}

/// FNV-1a, 32 bits, one step per UTF-16 code unit, as JavaScript's `charCodeAt` gives them.
pub fn fnv1a_32_utf16(parts: &[&str]) -> u32 {
    // A part that is ASCII has the same units in both encodings, and the bytes are faster to walk.
    if parts.iter().all(|part| part.is_ascii()) {
        return fnv1a_32(parts);
    }
    fnv(parts
        .iter()
        .flat_map(|part| part.encode_utf16())
        .map(u32::from))
}

/// FNV-1a of the decimal digits of a number, without writing them to the heap.
pub fn fnv1a_32_decimal(number: u32) -> u32 {
    let mut digits = [0_u8; 10];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    fnv(digits[start..].iter().copied().map(u32::from))
}

/// FNV-1a, 64 bits, over UTF-8.
pub fn fnv1a_64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// CRC-32 with the IEEE polynomial, over UTF-8.
pub fn crc32(parts: &[&str]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part.as_bytes()));
    hasher.finalize()
}

/// xxHash, 32 bits.
pub fn xxh32(text: &str, seed: u32) -> u32 {
    twox_hash::XxHash32::oneshot(seed, text.as_bytes())
}

/// xxHash, 64 bits.
pub fn xxh64(text: &str, seed: u64) -> u64 {
    twox_hash::XxHash64::oneshot(seed, text.as_bytes())
}

/// XXH3, 64 bits, default seed.
pub fn xxh3_64(text: &str) -> u64 {
    twox_hash::XxHash3_64::oneshot(text.as_bytes())
}

/// A running MurmurHash3 (x86, 32 bits).
pub struct Murmur3(Hasher32);

impl Murmur3 {
    pub fn new(seed: u32) -> Self {
        Self(Hasher32::with_seed(seed))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Adds a text as CBOR writes it: major type 3, the length in the shortest form, the UTF-8 bytes (RFC 8949).
    pub fn update_cbor_text(&mut self, text: &str) {
        const TEXT: u8 = 0x60;
        let length = text.len() as u64;
        let bytes = length.to_be_bytes();
        match length {
            0..24 => self.update(&[TEXT | bytes[7]]),
            24..0x100 => self.update(&[TEXT | 24, bytes[7]]),
            0x100..0x1_0000 => self.update(&[TEXT | 25, bytes[6], bytes[7]]),
            0x1_0000..0x1_0000_0000 => {
                self.update(&[TEXT | 26, bytes[4], bytes[5], bytes[6], bytes[7]])
            }
            _ => {
                self.update(&[TEXT | 27]);
                self.update(&bytes);
            }
        }
        self.update(text.as_bytes());
    }

    pub fn finish(self) -> u32 {
        self.0.finish32()
    }
}

fn digest<D: Digest>(parts: &[&str]) -> md5::digest::Output<D> {
    let mut hasher = D::new();
    parts.iter().for_each(|part| hasher.update(part.as_bytes()));
    hasher.finalize()
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(
        digest[..8]
            .try_into()
            .expect("every digest here has at least 16 bytes"),
    )
}

fn fnv(units: impl Iterator<Item = u32>) -> u32 {
    units.fold(FNV_OFFSET, |hash, unit| {
        (hash ^ unit).wrapping_mul(FNV_PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_of_one_block_is_md5() {
        for length in 0..130 {
            let unit = "é".repeat(length / 2) + &"x".repeat(length % 2);
            for salt in ["", "s", "one_click_pay.1"] {
                let whole = digest::<Md5>(&[salt, "-", &unit]);
                let expected = u32::from_be_bytes([whole[0], whole[1], whole[2], whole[3]]);
                assert_eq!(md5_32(&[salt, "-", &unit]), expected, "{salt}-{unit}");
            }
        }
    }
}
