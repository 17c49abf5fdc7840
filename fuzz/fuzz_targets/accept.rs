//! Any body a client may send: no panic, and whatever is accepted can be read back as the same number of records.
#![no_main]
#![allow(dead_code, reason = "only a part of the room is under test")]

mod events;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use events::accept::{Reception, accept};
use events::bots::Crowds;
use events::log::{Batch, body_of, segment};
use events::plan::TrackingPlan;
use events::record::Record;

static PLAN: LazyLock<TrackingPlan> = LazyLock::new(|| {
    let text = "events: [{name: paid, owner: o, properties: {x: {type: number, required: true}}}]";
    TrackingPlan::read([("p", text)]).expect("the plan is right")
});
static CROWDS: LazyLock<Crowds> = LazyLock::new(|| Crowds::new(3));
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let reception = Reception {
        received_at: 1_790_000_000_000_000,
        environment: "e",
        bot_reason: "",
        sender: Some((ADDRESS, &CROWDS)),
        plan: &PLAN,
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
