//! The bytes of a log segment, as pure functions: a header and framed records.
//! In: payloads, or the bytes of a segment file. Out: framed bytes, or the whole records of the valid prefix.
//! Files, locks and fsync are left to the other modules of this folder.
//!
//! A segment is a [`Header`] of [`HEADER_LENGTH`] bytes followed by records `[length u32][crc32c u32][payload]`, integers
//! little-endian. The checksum covers the length and the payload, so that a torn length cannot pass. The file is filled with
//! zeros ahead of the records (an fdatasync of an overwrite needs no metadata journal commit), hence length 0 is the end.

/// Bytes before the first record.
pub const HEADER_LENGTH: usize = 64;
/// Bytes before each payload.
pub const FRAME_LENGTH: usize = 8;
/// Larger payloads are refused by [`frame`], so a larger length in a file means a torn or foreign record.
pub const MAX_PAYLOAD_LENGTH: usize = 16 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"EQUILOG1";
const CHECKSUM_AT: usize = 48;

/// Appends one framed record to `out`. `None` when the payload is empty or longer than [`MAX_PAYLOAD_LENGTH`].
pub fn frame(payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = begin_frame(out);
    out.extend_from_slice(payload);
    end_frame(out, start)
}

/// Reserves the frame of a record whose payload the caller now appends to `out`; returns where the frame starts.
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_LENGTH]);
    start
}

/// Writes length and checksum of the record begun at `start`. `None`, and nothing appended, when the payload is empty or too long.
pub fn end_frame(out: &mut Vec<u8>, start: usize) -> Option<()> {
    let length = out.len() - start - FRAME_LENGTH;
    if length == 0 || length > MAX_PAYLOAD_LENGTH {
        out.truncate(start);
        return None;
    }
    let length_bytes = (length as u32).to_le_bytes();
    let checksum = checksum(length_bytes, &out[start + FRAME_LENGTH..]);
    out[start..start + 4].copy_from_slice(&length_bytes);
    out[start + 4..start + FRAME_LENGTH].copy_from_slice(&checksum.to_le_bytes());
    Some(())
}

/// The record that starts at the first byte of `bytes`, or why there is none.
pub fn read_record(bytes: &[u8]) -> Result<&[u8], End> {
    let Some((frame, rest)) = bytes.split_at_checked(FRAME_LENGTH) else {
        return Err(if bytes.iter().all(|byte| *byte == 0) {
            End::Clean
        } else {
            End::Torn
        });
    };
    let length_bytes = [frame[0], frame[1], frame[2], frame[3]];
    let length = u32::from_le_bytes(length_bytes) as usize;
    if length == 0 {
        return Err(if frame[4..].iter().all(|byte| *byte == 0) {
            End::Clean
        } else {
            End::Torn
        });
    }
    if length > MAX_PAYLOAD_LENGTH || length > rest.len() {
        return Err(End::Torn);
    }
    let expected = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let payload = &rest[..length];
    if checksum(length_bytes, payload) == expected {
        Ok(payload)
    } else {
        Err(End::Torn)
    }
}

/// The whole records of a segment's bytes after the header, in order. Ask [`Records::end`] when it is exhausted.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records {
        bytes,
        offset: 0,
        end: None,
    }
}

/// Iterator of [`records`]: `(offset of the frame, payload)`.
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: usize,
    end: Option<End>,
}

impl Records<'_> {
    /// Bytes of whole records read so far.
    pub fn valid_length(&self) -> usize {
        self.offset
    }

    /// Why the iteration stopped; `None` while it goes on.
    pub fn end(&self) -> Option<End> {
        self.end
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() {
            return None;
        }
        match read_record(&self.bytes[self.offset..]) {
            Ok(payload) => {
                let at = self.offset;
                self.offset += FRAME_LENGTH + payload.len();
                Some((at, payload))
            }
            Err(end) => {
                self.end = Some(end);
                None
            }
        }
    }
}

/// How the records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the end of the file or at the zeros written ahead.
    Clean,
    /// In a record that was not completely written; it was never acknowledged.
    Torn,
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Identifies the meaning of payload bytes; a log of another meaning is not appended to or read.
    pub schema_hash: u64,
    /// Strictly increasing within a log, never used twice.
    pub number: u64,
    /// The log the segment belongs to.
    pub log_id: u128,
}

impl Header {
    /// The header as [`HEADER_LENGTH`] bytes.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.schema_hash.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.log_id.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`; `None` when it is torn or not ours.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_LENGTH] = bytes.get(..HEADER_LENGTH)?.try_into().ok()?;
        let checksum = u32::from_le_bytes(array(bytes, CHECKSUM_AT));
        if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..CHECKSUM_AT]) != checksum {
            return None;
        }
        Some(Header {
            schema_hash: u64::from_le_bytes(array(bytes, 8)),
            number: u64::from_le_bytes(array(bytes, 16)),
            log_id: u128::from_le_bytes(array(bytes, 24)),
        })
    }
}

fn array<const N: usize>(bytes: &[u8; HEADER_LENGTH], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the offsets are constants inside the header")
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}
