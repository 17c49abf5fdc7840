//! OFREP's answer with all flags.
//! In: a context. Out: every flag's answer under one ETag, or 304 to who has it, and the assignments in the event log.
//! Reading the request is left to [`super::ofrep`], the texts to [`super::served`].

use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use chrono::{DateTime, Utc};

use super::answer::{self, Answer, json_text, quoted};
use super::assignments::Recorder;
use super::cache::{Asked, Decided};
use super::keys::Caller;
use super::served::{Part, Served};
use super::{State, etag, stream};
use crate::flags::{Context, Evaluations, Reason};

/// Answers `POST /ofrep/v1/evaluate/flags`.
pub fn answer_all(
    state: &State,
    served: &Served,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    context: &Context,
) -> Answer {
    let now = Utc::now();
    let tag = etag::bulk_tag(served, served.epoch(now), context);
    let tag_text = etag::text(tag);
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|header| header.to_str().ok());
    if known
        .into_iter()
        .any(|header| etag::matches(header, &tag_text))
    {
        return tagged(answer::empty(StatusCode::NOT_MODIFIED), &tag_text);
    }
    let asked = Asked {
        tag,
        caller: caller.index,
        day: now.timestamp().div_euclid(86_400),
    };
    let decided = served
        .decisions
        .get_or_make(asked, || decide(state, served, caller, asked, context, now));
    for (reason, count) in &decided.reasons {
        state.metrics.evaluations(*reason, *count);
    }
    let text = served.join(
        r#"{"flags":["#,
        &decided.positions,
        &end(state, served, caller),
    );
    tagged(json_text(StatusCode::OK, text), &tag_text)
}

/// What every flag answers, and whether the assignments are in the log, so that the same may be answered again.
fn decide(
    state: &State,
    served: &Served,
    caller: &Caller<'_>,
    asked: Asked,
    context: &Context,
    now: DateTime<Utc>,
) -> (Decided, bool) {
    let mut recorder = Recorder::new(state, caller, now);
    let mut reasons = Counts::default();
    let evaluations = Evaluations::new(&served.set, context, now);
    let all = state.recent_bulk.short(asked);
    let is_known = state.recent_bulk.contains(all);
    let position = |part: &Part| match part {
        Part::Constant { reasons: own, .. } => {
            own.iter()
                .for_each(|(reason, count)| reasons.add(*reason, *count));
            0
        }
        Part::Flag(index) => {
            let recorder = (!is_known).then_some(&mut recorder);
            decide_one(served, *index, &evaluations, recorder, &mut reasons)
        }
    };
    let positions = served.parts.iter().map(position).collect();
    let is_logged = recorder.append();
    if is_logged {
        state.recent_bulk.insert(all);
    }
    let reasons = reasons.finish();
    (Decided { positions, reasons }, is_logged)
}

fn decide_one(
    served: &Served,
    index: usize,
    evaluations: &Evaluations<'_>,
    recorder: Option<&mut Recorder<'_>>,
    reasons: &mut Counts,
) -> u32 {
    match evaluations.flag(&served.set.flags[index]) {
        Ok(evaluation) => {
            let (position, answer) = served.answer(index, &evaluation);
            if let Some(recorder) = recorder {
                recorder.record(&evaluation, answer);
            }
            reasons.add(evaluation.reason, 1);
            position
        }
        Err(error) => served.error(index, &error),
    }
}

fn end(state: &State, served: &Served, caller: &Caller<'_>) -> String {
    format!(
        r#"],"eventStreams":[{}],"metadata":{{"version":{}}}}}"#,
        stream::description(state, caller),
        quoted(&served.version)
    )
}

fn tagged(mut answer: Answer, tag: &str) -> Answer {
    let tag = HeaderValue::from_str(tag).expect("a tag is hex digits in quotes");
    answer.headers_mut().insert(ETAG, tag);
    answer
}

/// How many flags each reason decided.
#[derive(Default)]
pub struct Counts(Vec<(Reason, u64)>);

impl Counts {
    /// Adds `count` flags.
    pub fn add(&mut self, reason: Reason, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, total)) => *total += count,
            None => self.0.push((reason, count)),
        }
    }

    /// The counts, those of zero left out.
    pub fn finish(self) -> Box<[(Reason, u64)]> {
        self.0.into()
    }
}
