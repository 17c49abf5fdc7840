//! Documents that other systems' SDKs poll: Eppo's `/flags.ufc.json` and GrowthBook's `/api/features/{key}`.
//! In: the documents of the served set. Out: the same with an ETag, 304 for who has it. Making them is left to `flags`.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;

use super::answer::{self, Answer, json_text};
use super::keys::Scope;
use super::served::tagged;
use super::{State, etag};

/// `GET /flags.ufc.json`
pub async fn ufc(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Answer {
    match state.keys.authorize(&headers, Scope::Definitions) {
        Ok(_) => document(state.served().exports.ufc.as_ref(), &headers),
        Err(denied) => answer::denied(denied),
    }
}

/// `GET /api/features/{key}`: GrowthBook's SDKs send their key in the path.
pub async fn growthbook(
    Shared(state): Shared<Arc<State>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let checked = match state.keys.count() {
        0 => Ok(()),
        _ => state.keys.check(&key, Scope::Definitions).map(|_| ()),
    };
    match checked {
        Ok(()) => document(state.served().exports.growthbook.as_ref(), &headers),
        Err(denied) => answer::denied(denied),
    }
}

fn document(document: Option<&Bytes>, headers: &HeaderMap) -> Answer {
    let Some(document) = document else {
        return answer::error(
            StatusCode::NOT_FOUND,
            "the definitions cannot be expressed in this format",
        );
    };
    let (body, tag) = tagged(document);
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|header| header.to_str().ok());
    let is_known = known.is_some_and(|header| etag::matches(header, &tag));
    let mut answer = if is_known {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        json_text(StatusCode::OK, body)
    };
    answer.headers_mut().insert(
        ETAG,
        HeaderValue::from_str(&tag).expect("a tag is hex digits in quotes"),
    );
    answer
}
