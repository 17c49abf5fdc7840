//! Which files a source has, and their text. In: a location relative to the project folder. Out: files in path order with
//! one format; streams of UTF-8 text without byte-order mark, decompressed.

use super::problems::{ProblemKind, SourceProblem};
use super::{Format, SourceFile, SourceFiles};
use globset::{GlobBuilder, GlobMatcher};
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};
use walkdir::WalkDir;

/// The files of a source as they lie there now, without reading them; none where it cannot be told.
pub fn states(root: &Path, source: &SourceFiles) -> Option<Vec<(String, FileState)>> {
    let (_, files) = locate(root, source).ok()?;
    Some(
        files
            .into_iter()
            .map(|file| (file.name, file.state))
            .collect(),
    )
}

/// The files of a source; at least one.
pub(super) fn locate(
    root: &Path,
    source: &SourceFiles,
) -> Result<(Format, Vec<SourceFile>), Vec<SourceProblem>> {
    let location = source.location.trim();
    let is_glob = location.contains(['*', '?', '[', '{']) && !root.join(location).exists();
    let paths = match is_glob {
        true => matching(root, location),
        false => single_or_folder(root, location, source.format),
    };
    let paths = paths.map_err(|problem| vec![problem])?;
    let format = common_format(location, source.format, &paths).map_err(|problem| vec![problem])?;
    let files = paths
        .iter()
        .map(|path| describe(root, path))
        .collect::<Result<_, _>>();
    Ok((format, files.map_err(|problem| vec![problem])?))
}

fn single_or_folder(
    root: &Path,
    location: &str,
    format: Option<Format>,
) -> Result<Vec<PathBuf>, SourceProblem> {
    let path = root.join(location);
    if location.is_empty() {
        return Err(SourceProblem::new(
            ProblemKind::Missing,
            location,
            "the source has no path",
            "name a file, folder or glob",
        ));
    }
    if path.is_file() {
        return Ok(vec![path]);
    }
    if !path.is_dir() {
        let message = format!("there is no file or folder `{location}`");
        return Err(SourceProblem::new(
            ProblemKind::Missing,
            location,
            message,
            place_hint(root, location),
        ));
    }
    if path.join("_delta_log").is_dir() {
        let message =
            format!("`{location}` is a Delta table, which cannot be read as a folder of files");
        let hint = "its folder also holds files that are no longer part of the table; export it to one Parquet file";
        return Err(SourceProblem::new(
            ProblemKind::Format,
            location,
            message,
            hint,
        ));
    }
    let found = walk(&path, &|file| {
        format_of(file).is_some_and(|found| format.is_none_or(|wanted| wanted == found))
    })?;
    match found.is_empty() {
        false => Ok(found),
        true => {
            let message = format!("the folder `{location}` holds no data files");
            let hint = "files that end in .csv, .tsv, .jsonl, .ndjson or .parquet are read, hidden ones are not";
            Err(SourceProblem::new(
                ProblemKind::Missing,
                location,
                message,
                hint,
            ))
        }
    }
}

/// Where the way to a missing file ends.
fn place_hint(root: &Path, location: &str) -> String {
    let mut known = PathBuf::new();
    for part in Path::new(location).components() {
        if !root.join(&known).join(part).exists() {
            let (part, known) = (
                Path::new(part.as_os_str()).display(),
                known.display().to_string(),
            );
            return match known.as_str() {
                "" => format!("paths start at the project folder, which has no `{part}`"),
                known => format!("the folder `{known}` has no `{part}`"),
            };
        }
        known.push(part);
    }
    "check the path".to_string()
}

fn matching(root: &Path, location: &str) -> Result<Vec<PathBuf>, SourceProblem> {
    let matcher = glob(location)?;
    let fixed: PathBuf = Path::new(location)
        .components()
        .take_while(|part| !is_pattern(part))
        .collect();
    let folder = root.join(&fixed);
    let relative = |file: &Path| {
        file.strip_prefix(&folder)
            .map(|rest| fixed.join(rest))
            .unwrap_or_default()
    };
    let found = match folder.is_dir() {
        true => walk(&folder, &|file| matcher.is_match(relative(file)))?,
        false => Vec::new(),
    };
    match found.is_empty() {
        false => Ok(found),
        true => {
            let message = format!("no file matches `{location}`");
            let hint = "`*` stands for any part of a name, `**` for any folders; hidden files are not read";
            Err(SourceProblem::new(
                ProblemKind::Missing,
                location,
                message,
                hint,
            ))
        }
    }
}

fn is_pattern(part: &Component<'_>) -> bool {
    part.as_os_str()
        .to_string_lossy()
        .contains(['*', '?', '[', '{'])
}

fn glob(location: &str) -> Result<GlobMatcher, SourceProblem> {
    // Path::components() has dropped `./` from what is compared, so it must go from the pattern, too.
    let pattern: PathBuf = Path::new(location).components().collect();
    let glob = GlobBuilder::new(&pattern.to_string_lossy())
        .literal_separator(true)
        .build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| {
        let message = format!("`{location}` is not a glob: {}", error.kind());
        SourceProblem::new(
            ProblemKind::Missing,
            location,
            message,
            "write a glob such as `data/events/*.csv`",
        )
    })
}

/// Files in path order. Names that start with a dot or an underscore are left out, as other engines do.
fn walk(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>, SourceProblem> {
    let is_shown = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path == folder || !name.starts_with(['.', '_'])
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| is_shown(entry.path()))
    {
        // A link to nothing cannot be filtered before it is followed: an editor's lock.
        let failed = entry.as_ref().err().and_then(|error| error.path());
        if failed.is_some_and(|path| !is_shown(path)) {
            continue;
        }
        let entry = entry.map_err(|error| {
            let message = format!("the folder cannot be listed: {error}");
            SourceProblem::new(
                ProblemKind::Unreadable,
                &folder.display().to_string(),
                message,
                "check its permissions",
            )
        })?;
        if entry.file_type().is_file() && is_wanted(entry.path()) {
            files.push(entry.into_path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn common_format(
    location: &str,
    declared: Option<Format>,
    files: &[PathBuf],
) -> Result<Format, SourceProblem> {
    if let Some(format) = declared {
        return Ok(format);
    }
    let mut formats = files.iter().map(|file| format_of(file));
    let Some(first) = formats.next().flatten() else {
        let message = format!("the format of `{location}` cannot be told from its name");
        return Err(SourceProblem::new(
            ProblemKind::Format,
            location,
            message,
            "set `format` to csv, jsonl or parquet",
        ));
    };
    match formats.all(|format| format == Some(first)) {
        true => Ok(first),
        false => {
            let message = format!("`{location}` holds files of different formats");
            Err(SourceProblem::new(
                ProblemKind::Format,
                location,
                message,
                "set `format`, or use a glob such as `folder/*.csv`",
            ))
        }
    }
}

fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let name = name
        .strip_suffix(".gz")
        .or(name.strip_suffix(".zst"))
        .unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" | "tsv" => Some(Format::Csv),
        "jsonl" | "ndjson" | "json" => Some(Format::JsonLines),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

fn describe(root: &Path, path: &Path) -> Result<SourceFile, SourceProblem> {
    let name = path
        .strip_prefix(root)
        .unwrap_or(path)
        .components()
        .collect::<PathBuf>()
        .display()
        .to_string();
    match FileState::of(path) {
        Ok(state) => Ok(SourceFile {
            name,
            path: path.to_path_buf(),
            rows: 0,
            bytes: state.bytes,
            hash: String::new(),
            state,
        }),
        Err(error) => Err(unreadable(&name, &error)),
    }
}

/// A file that changed this shortly before it was read could change again within the same tick of its clock.
pub const TOO_FRESH: Duration = Duration::from_millis(100);

/// What tells whether a file is still the one that was inspected, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    bytes: u64,
    modified: SystemTime,
    change: (u64, i64, i64),
}

impl FileState {
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::from_metadata(&path.metadata()?)
    }

    pub fn from_metadata(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            bytes: metadata.len(),
            modified: metadata.modified()?,
            change: change_of(metadata),
        })
    }

    /// When it was last written.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Since the last change; zero for a time in the future.
    pub fn age(&self) -> Duration {
        SystemTime::now()
            .duration_since(self.modified)
            .unwrap_or_default()
    }
}

/// Inode and time of change: a file put in another's place, or with its time set back, is another file.
#[cfg(unix)]
fn change_of(metadata: &Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn change_of(_: &Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

pub(super) fn unreadable(name: &str, error: &io::Error) -> SourceProblem {
    let hint = "check that the file exists and may be read";
    SourceProblem::new(
        ProblemKind::Unreadable,
        name,
        format!("the file cannot be read: {error}"),
        hint,
    )
}

/// The text of a CSV or JSON lines file: decompressed, without its byte-order mark.
pub(super) fn open_text(file: &SourceFile) -> Result<Box<dyn Read + Send>, SourceProblem> {
    let opened = File::open(&file.path).map_err(|error| unreadable(&file.name, &error))?;
    let mut text: Box<dyn Read + Send> = match compression_of(&file.path) {
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(opened)),
        Some(Compression::Zstd) => {
            Box::new(zstd::Decoder::new(opened).map_err(|error| unreadable(&file.name, &error))?)
        }
        None => Box::new(opened),
    };
    let start = first_bytes(&mut text).map_err(|error| unreadable(&file.name, &error))?;
    if let Some((message, hint)) = other_content(&start) {
        return Err(SourceProblem::new(
            ProblemKind::Format,
            &file.name,
            message,
            hint,
        ));
    }
    let start = start
        .strip_prefix(&BYTE_ORDER_MARK)
        .map(<[u8]>::to_vec)
        .unwrap_or(start);
    Ok(Box::new(Cursor::new(start).chain(text)))
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// How many bytes of the file come before its text; none if the file is compressed, so that places in it mean nothing.
pub(super) fn plain_text_offset(file: &SourceFile) -> Option<u64> {
    if compression_of(&file.path).is_some() {
        return None;
    }
    let start = first_bytes(&mut File::open(&file.path).ok()?).ok()?;
    Some(if start.starts_with(&BYTE_ORDER_MARK) {
        3
    } else {
        0
    })
}

enum Compression {
    Gzip,
    Zstd,
}

fn compression_of(path: &Path) -> Option<Compression> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "gz" => Some(Compression::Gzip),
        "zst" => Some(Compression::Zstd),
        _ => None,
    }
}

fn first_bytes(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(4);
    reader.take(4).read_to_end(&mut start)?;
    Ok(start)
}

/// Content that no text file starts with.
fn other_content(start: &[u8]) -> Option<(&'static str, &'static str)> {
    if start.starts_with(b"PAR1") {
        Some((
            "this is a Parquet file",
            "let its name end in .parquet, or set `format: parquet`",
        ))
    } else if start.starts_with(&[0x1F, 0x8B]) {
        Some((
            "this file is compressed with gzip",
            "let its name end in .gz",
        ))
    } else if start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        Some((
            "this file is compressed with zstd",
            "let its name end in .zst",
        ))
    } else if start.starts_with(b"PK\x03\x04") {
        Some((
            "this is a zip archive or a spreadsheet",
            "export the sheet as CSV, or unpack the archive",
        ))
    } else if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        Some(("this file is UTF-16", "save it as UTF-8"))
    } else {
        None
    }
}
