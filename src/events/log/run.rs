//! One sorted file of id fingerprints with a blocked Bloom filter in front.
//! In: the fingerprints of a closed segment, or several runs to merge. Out: a durable file that answers `contains`.
//! Which runs exist and when they are merged or dropped is left to [`super::seen`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"EQUIIDS1";
/// Magic, count, closed_at, first segment, last segment, Bloom blocks, checksum of header and filter.
const HEADER_LENGTH: usize = 8 + 5 * 8 + 8;
const ID_LENGTH: u64 = 16;
/// 12 bits a fingerprint and 7 probes in one cache line: 0.6 to 0.8 % false positives.
const BITS_PER_ID: u64 = 12;
const BLOCK_WORDS: usize = 8;
const PROBES: u32 = 7;
/// Fingerprints read at once by a look-up.
const PAGE_IDS: u64 = 256;

/// A run file, opened.
pub struct Run {
    path: PathBuf,
    file: File,
    span: Span,
    filter: Vec<[u64; BLOCK_WORDS]>,
}

/// What a run holds.
#[derive(Clone, Copy, Debug)]
struct Span {
    count: u64,
    closed_at: i64,
    first_segment: u64,
    last_segment: u64,
}

impl Run {
    /// Writes the run of one segment, durably.
    pub fn write(
        directory: &Path,
        segment: u64,
        ids: &super::seen::IdSet,
        closed_at: i64,
    ) -> io::Result<Run> {
        let mut sorted: Vec<u128> = ids.iter().copied().collect();
        sorted.sort_unstable();
        let span = Span {
            count: sorted.len() as u64,
            closed_at,
            first_segment: segment,
            last_segment: segment,
        };
        write_run(directory, span, sorted.into_iter().map(Ok))
    }

    /// Merges runs into one that covers all of them, durably. The parts stay.
    pub fn merge(directory: &Path, parts: &[Arc<Run>]) -> io::Result<Run> {
        let span = Span {
            count: parts.iter().map(|run| run.span.count).sum(),
            closed_at: parts
                .iter()
                .map(|run| run.span.closed_at)
                .max()
                .unwrap_or_default(),
            first_segment: parts
                .iter()
                .map(|run| run.span.first_segment)
                .min()
                .unwrap_or_default(),
            last_segment: parts
                .iter()
                .map(|run| run.span.last_segment)
                .max()
                .unwrap_or_default(),
        };
        let readers = parts
            .iter()
            .map(|run| run.ids())
            .collect::<io::Result<Vec<_>>>()?;
        write_run(directory, span, Merge::new(readers)?)
    }

    /// Opens all run files of a folder, oldest first; half-written ones are removed.
    pub fn open_all(directory: &Path) -> io::Result<Vec<Run>> {
        let mut runs = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("ids") => runs.push(Run::open(&path)?),
                Some("new") => fs::remove_file(&path)?,
                _ => {}
            }
        }
        runs.sort_by_key(|run| run.span.last_segment);
        Ok(runs)
    }

    /// Whether `id` is in the run.
    pub fn contains(&self, id: u128) -> io::Result<bool> {
        if self.span.count == 0 || !self.may_contain(id) {
            return Ok(false);
        }
        self.search(id)
    }

    /// Whether the run holds the ids of `segment`.
    pub fn covers(&self, segment: u64) -> bool {
        (self.span.first_segment..=self.span.last_segment).contains(&segment)
    }

    /// Number of fingerprints.
    pub fn count(&self) -> u64 {
        self.span.count
    }

    /// When its newest segment was closed, microseconds since 1970.
    pub fn closed_at(&self) -> i64 {
        self.span.closed_at
    }

    /// The newest segment it covers.
    pub fn last_segment(&self) -> u64 {
        self.span.last_segment
    }

    /// Removes the file. An error leaves a file whose ids are known elsewhere or expired: harmless.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    fn open(path: &Path) -> io::Result<Run> {
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{}` is not a run of event ids", path.display()),
            )
        };
        let file = File::open(path)?;
        let mut header = [0; HEADER_LENGTH];
        file.read_exact_at(&mut header, 0).map_err(|_| damaged())?;
        let (span, blocks, checksum) = decode_header(&header).ok_or_else(damaged)?;
        let expected =
            HEADER_LENGTH as u64 + blocks * (BLOCK_WORDS as u64 * 8) + span.count * ID_LENGTH;
        if blocks > expected_blocks(span.count) || file.metadata()?.len() != expected {
            return Err(damaged());
        }
        let mut bytes = vec![0; blocks as usize * BLOCK_WORDS * 8];
        file.read_exact_at(&mut bytes, HEADER_LENGTH as u64)?;
        if filter_checksum(&header, &bytes) != checksum {
            return Err(damaged());
        }
        Ok(Run {
            path: path.to_path_buf(),
            file,
            span,
            filter: decode_filter(&bytes),
        })
    }

    fn may_contain(&self, id: u128) -> bool {
        let block = &self.filter[block_of(id, self.filter.len())];
        bits_of(id).all(|bit| block[bit / 64] & (1 << (bit % 64)) != 0)
    }

    /// Interpolation search over pages of the file: fingerprints are spread evenly, so the first guess is rarely off by more than
    /// a page or two. Every third step halves what is left, so that no set of ids makes it slow.
    fn search(&self, id: u128) -> io::Result<bool> {
        let (mut low, mut high) = (0, self.span.count.div_ceil(PAGE_IDS));
        let (mut least, mut most) = (0, u128::MAX);
        let mut page = vec![0; (PAGE_IDS * ID_LENGTH) as usize];
        for step in 1_u32.. {
            if low >= high {
                break;
            }
            let middle = match step % 3 {
                0 => low + (high - low) / 2,
                _ => low + share(id - least, most - least, high - low),
            };
            let ids = self.read_page(middle, &mut page)?;
            let (first, last) = (id_at(ids, 0), id_at(ids, ids.len() as u64 / ID_LENGTH - 1));
            if id < first {
                (high, most) = (middle, first);
            } else if id > last {
                (low, least) = (middle + 1, last);
            } else {
                return Ok(ids
                    .chunks_exact(ID_LENGTH as usize)
                    .any(|bytes| bytes == id.to_le_bytes()));
            }
        }
        Ok(false)
    }

    fn read_page<'a>(&self, page: u64, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let from = page * PAGE_IDS;
        let count = PAGE_IDS.min(self.span.count - from);
        let bytes = &mut buffer[..(count * ID_LENGTH) as usize];
        self.file
            .read_exact_at(bytes, self.ids_offset() + from * ID_LENGTH)?;
        Ok(bytes)
    }

    fn ids_offset(&self) -> u64 {
        (HEADER_LENGTH + self.filter.len() * BLOCK_WORDS * 8) as u64
    }

    fn ids(&self) -> io::Result<IdReader> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.ids_offset()))?;
        Ok(IdReader {
            reader: BufReader::with_capacity(64 * 1024, file),
            left: self.span.count,
        })
    }
}

fn write_run(
    directory: &Path,
    span: Span,
    ids: impl Iterator<Item = io::Result<u128>>,
) -> io::Result<Run> {
    let path = directory.join(format!(
        "{:020}-{:020}.ids",
        span.first_segment, span.last_segment
    ));
    let temporary = path.with_extension("new");
    let mut filter = vec![[0; BLOCK_WORDS]; expected_blocks(span.count) as usize];
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&temporary)?;
    let filter_length = filter.len() * BLOCK_WORDS * 8;
    file.seek(SeekFrom::Start((HEADER_LENGTH + filter_length) as u64))?;
    let mut writer = BufWriter::with_capacity(64 * 1024, file);
    for id in ids {
        let id = id?;
        set_bits(&mut filter, id);
        writer.write_all(&id.to_le_bytes())?;
    }
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    let filter_bytes: Vec<u8> = filter
        .iter()
        .flatten()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    file.write_all_at(&encode_header(span, filter.len() as u64, &filter_bytes), 0)?;
    file.write_all_at(&filter_bytes, HEADER_LENGTH as u64)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(directory)?.sync_all()?;
    Ok(Run {
        path,
        file,
        span,
        filter,
    })
}

fn encode_header(span: Span, blocks: u64, filter: &[u8]) -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    header[..8].copy_from_slice(MAGIC);
    let fields = [
        span.count,
        span.closed_at as u64,
        span.first_segment,
        span.last_segment,
        blocks,
    ];
    for (field, bytes) in fields.iter().zip(header[8..].chunks_exact_mut(8)) {
        bytes.copy_from_slice(&field.to_le_bytes());
    }
    let checksum = filter_checksum(&header, filter);
    header[HEADER_LENGTH - 8..HEADER_LENGTH - 4].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn decode_header(header: &[u8; HEADER_LENGTH]) -> Option<(Span, u64, u32)> {
    let field = |index: usize| {
        let at = 8 + index * 8;
        u64::from_le_bytes(
            header[at..at + 8]
                .try_into()
                .expect("five fields of eight bytes follow the magic"),
        )
    };
    let span = Span {
        count: field(0),
        closed_at: field(1) as i64,
        first_segment: field(2),
        last_segment: field(3),
    };
    (&header[..8] == MAGIC).then_some((span, field(4), field(5) as u32))
}

fn filter_checksum(header: &[u8; HEADER_LENGTH], filter: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..HEADER_LENGTH - 8]), filter)
}

fn decode_filter(bytes: &[u8]) -> Vec<[u64; BLOCK_WORDS]> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a word has eight bytes"));
    bytes
        .chunks_exact(BLOCK_WORDS * 8)
        .map(|block| std::array::from_fn(|index| word(&block[index * 8..index * 8 + 8])))
        .collect()
}

fn expected_blocks(count: u64) -> u64 {
    (count.saturating_mul(BITS_PER_ID))
        .div_ceil(BLOCK_WORDS as u64 * 64)
        .max(1)
}

fn block_of(id: u128, blocks: usize) -> usize {
    (((id >> 64) * blocks as u128) >> 64) as usize
}

fn bits_of(id: u128) -> impl Iterator<Item = usize> {
    (0..PROBES).map(move |probe| ((id as u64) >> (probe * 9)) as usize & 511)
}

fn set_bits(filter: &mut [[u64; BLOCK_WORDS]], id: u128) {
    let block = block_of(id, filter.len());
    bits_of(id).for_each(|bit| filter[block][bit / 64] |= 1 << (bit % 64));
}

/// `part` of `whole`, as one of `places`.
fn share(part: u128, whole: u128, places: u64) -> u64 {
    // The upper halves are enough to guess by, and their product fits.
    let place = (part >> 64) * u128::from(places) / ((whole >> 64) + 1);
    place.min(u128::from(places - 1)) as u64
}

fn id_at(page: &[u8], index: u64) -> u128 {
    let at = (index * ID_LENGTH) as usize;
    u128::from_le_bytes(
        page[at..at + ID_LENGTH as usize]
            .try_into()
            .expect("a fingerprint has sixteen bytes"),
    )
}

/// The fingerprints of a run in ascending order.
struct IdReader {
    reader: BufReader<File>,
    left: u64,
}

impl Iterator for IdReader {
    type Item = io::Result<u128>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut bytes = [0; ID_LENGTH as usize];
        Some(
            self.reader
                .read_exact(&mut bytes)
                .map(|()| u128::from_le_bytes(bytes)),
        )
    }
}

/// Ascending union of several readers.
struct Merge {
    readers: Vec<IdReader>,
    heads: BinaryHeap<Reverse<(u128, usize)>>,
}

impl Merge {
    fn new(readers: Vec<IdReader>) -> io::Result<Merge> {
        let mut merge = Merge {
            heads: BinaryHeap::with_capacity(readers.len()),
            readers,
        };
        for index in 0..merge.readers.len() {
            merge.pull(index)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, index: usize) -> io::Result<()> {
        if let Some(id) = self.readers[index].next() {
            self.heads.push(Reverse((id?, index)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = io::Result<u128>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((id, index)) = self.heads.pop()?;
        Some(self.pull(index).map(|()| id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::IdSet;
    use super::*;

    fn holds_exactly(ids: impl Iterator<Item = u128> + Clone, others: impl Iterator<Item = u128>) {
        let folder = tempfile::tempdir().unwrap();
        let set: IdSet = ids.clone().collect();
        let run = Run::write(folder.path(), 1, &set, 0).unwrap();
        assert!(ids.into_iter().all(|id| run.search(id).unwrap()));
        assert!(!others.into_iter().any(|id| run.search(id).unwrap()));
    }

    #[test]
    fn every_id_is_found_and_no_other_however_they_are_spread() {
        let spread = |index: u128| index.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        holds_exactly((1..5_000).map(spread), (5_000..6_000).map(spread));
        // All in one corner: guesses are wrong, halving still finds them.
        holds_exactly((0..3_000).map(|id| id * 2), (0..3_000).map(|id| id * 2 + 1));
        holds_exactly(
            (0..3_000).map(|id| u128::MAX - id),
            [0, 1 << 127].into_iter(),
        );
        holds_exactly([7].into_iter(), [6, 8].into_iter());
    }
}
