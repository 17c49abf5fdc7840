//! Any bytes a crash may leave in a segment: no panic, and the records found are a prefix that reads the same again.
#![no_main]
#![allow(dead_code, reason = "only a part of the room is under test")]

mod events;

use events::log::{body_of, fingerprint_of, segment};
use events::record::Record;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = segment::Header::decode(bytes);
    let mut records = segment::records(bytes);
    let mut framed = Vec::new();
    for (at, payload) in records.by_ref() {
        assert_eq!(at, framed.len());
        let _ = (fingerprint_of(payload), Record::decode(body_of(payload)));
        segment::frame(payload, &mut framed).expect("a payload that was read has a good length");
    }
    assert_eq!(framed, bytes[..records.valid_length()]);
});
