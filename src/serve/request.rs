//! Reads an evaluation request.
//! In: the path and the body a stranger sent. Out: the flag's key and the context, or OpenFeature's error code and why. How many
//! bytes there may be was checked before; what attributes there are is said by `flags`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::flags::{Context, ContextJson, ReadContext, Schema};

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
/// The body is no JSON object, or its context is not one, has more than `most` attributes, or one of another type than declared.
pub fn context_of(body: &[u8], schema: &Schema, most: usize) -> Result<Context, Bad> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let reader = RequestReader { schema };
    let read = reader.deserialize(&mut json);
    match read.and_then(|read| json.end().map(|()| read)) {
        Ok(ContextJson::Null) => Ok(schema.empty_context()),
        Ok(ContextJson::Object(_, attributes)) if attributes > most => {
            let details = format!("the context has more than {most} attributes");
            Err(bad("INVALID_CONTEXT", details))
        }
        Ok(ContextJson::Object(context, _)) => {
            context.map_err(|error| bad("INVALID_CONTEXT", error.to_string()))
        }
        Ok(ContextJson::Other) => {
            let details = "the context is not an object".to_string();
            Err(bad("INVALID_CONTEXT", details))
        }
        Err(error) => {
            let details = format!("the body is not an evaluation request: {error}");
            Err(bad("PARSE_ERROR", details))
        }
    }
}

/// Reads the body of a request.
struct RequestReader<'a> {
    schema: &'a Schema,
}

impl<'de> DeserializeSeed<'de> for RequestReader<'_> {
    type Value = ContextJson;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ContextJson, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RequestReader<'_> {
    type Value = ContextJson;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object with a `context`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ContextJson, A::Error> {
        let mut read = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Context if read.is_some() => {
                    return Err(A::Error::duplicate_field("context"));
                }
                Field::Context => read = Some(map.next_value_seed(ReadContext::of(self.schema))?),
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(read.unwrap_or(ContextJson::Null))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Context,
    #[serde(other)]
    Other,
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
