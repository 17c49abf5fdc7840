//! Reads an evaluation request.
//! In: the path and the body a stranger sent. Out: the flag's key and the context as JSON, or OpenFeature's error code and why.
//! How many bytes there may be was checked before; the types of attributes are checked by `flags`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a request cannot be read: answered with 400.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    pub code: &'static str,
    pub details: String,
}

/// The path of all flags; a flag's key follows it after a slash.
const PATH: &str = "/ofrep/v1/evaluate/flags/";

/// The key in the path, percent-decoded (RFC 3986, 2.1); none in the path of all flags.
///
/// # Errors
/// The key is not UTF-8.
pub fn key_of(path: &str) -> Result<Option<Cow<'_, str>>, Bad> {
    let Some(key) = path.strip_prefix(PATH) else {
        return Ok(None);
    };
    if !key.contains('%') {
        return Ok(Some(Cow::Borrowed(key)));
    }
    let bytes = key.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| escaped_byte(bytes.get(at + 1..at + 3)?))
            .flatten();
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded)
        .map(|key| Some(Cow::Owned(key)))
        .map_err(|_| bad("PARSE_ERROR", "the flag's key is not UTF-8".to_string()))
}

/// The context of a body; a body without one has an empty context.
///
/// # Errors
/// The body is no JSON object, or the context is not one or has more than `most` attributes.
pub fn context_of(body: &[u8], most: usize) -> Result<Map<String, Value>, Bad> {
    let request: EvaluationRequest = serde_json::from_slice(body).map_err(|error| {
        let details = format!("the body is not an evaluation request: {error}");
        bad("PARSE_ERROR", details)
    })?;
    match request.context {
        Value::Object(context) if context.len() <= most => Ok(context),
        Value::Object(_) => Err(bad(
            "INVALID_CONTEXT",
            format!("the context has more than {most} attributes"),
        )),
        Value::Null => Ok(Map::new()),
        _ => Err(bad(
            "INVALID_CONTEXT",
            "the context is not an object".to_string(),
        )),
    }
}

#[derive(Deserialize)]
struct EvaluationRequest {
    #[serde(default)]
    context: Value,
}

fn escaped_byte(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` would take a sign.
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low] = digits else {
        return None;
    };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn bad(code: &'static str, details: String) -> Bad {
    Bad { code, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_decoded_and_what_is_no_escape_stays() {
        let key =
            |rest: &str| key_of(&format!("{PATH}{rest}")).map(|key| key.unwrap().into_owned());
        assert_eq!(key("a%2Fb%C3%A9"), Ok("a/bé".to_string()));
        assert_eq!(key("100%"), Ok("100%".to_string()));
        assert_eq!(key("%+1%zz%4"), Ok("%+1%zz%4".to_string()));
        assert_eq!(key("%ff").unwrap_err().code, "PARSE_ERROR");
        assert_eq!(key_of("/ofrep/v1/evaluate/flags"), Ok(None));
    }
}
