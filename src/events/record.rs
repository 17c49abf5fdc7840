//! What the log keeps of one event: what the server decided when it took it, and the event's JSON as sent.
//! In: a [`Record`]. Out: bytes, and back. Everything a table row needs is inside, so that rotation depends on nothing else.

/// One event in the log. Times in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub table: super::schema::Table,
    pub received_at: i64,
    /// When the batch was sent, by the sender's clock, if the batch said so and the event did not.
    pub sent_at: Option<i64>,
    pub environment: &'a str,
    /// Why the sender is taken for a bot; empty when it is not.
    pub bot_reason: &'a str,
    /// Why the event is in quarantine; empty when it is not.
    pub violation: &'a str,
    pub json: &'a str,
}

/// Identifies this layout in the header of a segment.
pub const SCHEMA_HASH: u64 = u64::from_le_bytes(*b"event/1\0");

/// A record but for its JSON, for who writes that piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct RecordHead<'a> {
    pub table: super::schema::Table,
    pub received_at: i64,
    pub sent_at: Option<i64>,
    pub environment: &'a str,
    pub bot_reason: &'a str,
    pub violation: &'a str,
}

impl RecordHead<'_> {
    /// Appends what comes before the JSON to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.table as u8);
        out.extend_from_slice(&self.received_at.to_le_bytes());
        out.extend_from_slice(&self.sent_at.unwrap_or(NOT_SENT).to_le_bytes());
        for text in [self.environment, self.bot_reason, self.violation] {
            let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl<'a> Record<'a> {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let head = RecordHead {
            table: self.table,
            received_at: self.received_at,
            sent_at: self.sent_at,
            environment: self.environment,
            bot_reason: self.bot_reason,
            violation: self.violation,
        };
        head.encode(out);
        out.extend_from_slice(self.json.as_bytes());
    }

    /// Reads a record back; `None` when the bytes are not one.
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (table, bytes) = bytes.split_first()?;
        let table = *super::schema::Table::ALL.get(usize::from(*table))?;
        let (received_at, bytes) = bytes.split_first_chunk()?;
        let (sent_at, mut bytes) = bytes.split_first_chunk()?;
        let sent_at = i64::from_le_bytes(*sent_at);
        let mut text = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            bytes = rest;
            str::from_utf8(text).ok()
        };
        let (environment, bot_reason, violation) = (text()?, text()?, text()?);
        Some(Record {
            table,
            received_at: i64::from_le_bytes(*received_at),
            sent_at: (sent_at != NOT_SENT).then_some(sent_at),
            environment,
            bot_reason,
            violation,
            json: str::from_utf8(bytes).ok()?,
        })
    }
}

const NOT_SENT: i64 = i64::MIN;
