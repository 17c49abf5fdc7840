//! Any body a client may send: no panic, and whatever is accepted can be read back as the same number of records.
#![no_main]
#![allow(dead_code, reason = "only a part of the room is under test")]

mod events;

use events::accept::{Reception, accept};
use events::log::{Batch, body_of, segment};
use events::plan::TrackingPlan;
use events::record::Record;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let plan = TrackingPlan::read([(
        "p",
        "events: [{name: paid, owner: o, properties: {x: {type: number, required: true}}}]",
    )])
    .expect("the plan is right");
    let reception = Reception {
        received_at: 1_790_000_000_000_000,
        environment: "e",
        bot_reason: "",
        plan: &plan,
    };
    let mut batch = Batch::default();
    let accepted = accept(body, &reception, &mut batch);
    let records = segment::records(batch.bytes())
        .map(|(_, payload)| Record::decode(body_of(payload)).expect("it was encoded"));
    assert_eq!(
        records.count(),
        accepted.map_or(0, |accepted| accepted.events)
    );
});
