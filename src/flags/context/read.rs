//! Reads a context while its JSON is walked through: nothing is kept but the values of declared attributes.
//! In: a schema and any serde format with JSON's types. Out: a context, or the attribute whose value has another type, and how many
//! attributes there were. What is not declared is read to its end as well, so that broken text is an error wherever it stands.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::targeting::version_key;
use super::{Context, ContextError, Schema, Type, Value, parse_timestamp};

/// Reads a context. A name that comes twice has its last value.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    schema: &'a Schema,
}

/// What stood where a context should.
pub enum ContextJson {
    Null,
    /// An object; and how many attributes it has.
    Object(Result<Context, ContextError>, usize),
    Other,
}

impl<'a> ReadContext<'a> {
    /// For contexts of this schema.
    pub fn of(schema: &'a Schema) -> Self {
        Self { schema }
    }
}

impl<'de> DeserializeSeed<'de> for ReadContext<'_> {
    type Value = ContextJson;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ContextJson, D::Error> {
        let mut reader = Reader {
            schema: self.schema,
            context: self.schema.empty_context(),
            targeting_key: None,
            wrong: Vec::new(),
            attributes: 0,
        };
        let fields = Fields {
            reader: &mut reader,
            prefix: "",
        };
        Ok(match JsonVisitor(fields).deserialize(deserializer)? {
            Json::Null => ContextJson::Null,
            Json::Object => {
                let attributes = reader.attributes;
                ContextJson::Object(reader.finish(), attributes)
            }
            _ => ContextJson::Other,
        })
    }
}

/// What was read so far.
struct Reader<'a> {
    schema: &'a Schema,
    context: Context,
    /// Whatever the order, it replaces the attribute of the first identifier.
    targeting_key: Option<Found>,
    /// Slots with a value of another type.
    wrong: Vec<(usize, &'static str)>,
    /// Fields of the outermost object.
    attributes: usize,
}

/// A value of the right type, or what there was instead.
type Found = Result<Value, &'static str>;

impl Reader<'_> {
    /// Reads the fields of an object whose own name, with a dot, is `prefix`.
    fn fields<'de, A: MapAccess<'de>>(&mut self, prefix: &str, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            let path = match prefix {
                "" => name,
                prefix => Cow::Owned(format!("{prefix}{name}")),
            };
            self.attributes += usize::from(prefix.is_empty());
            self.field(&path, &mut map)?;
        }
        Ok(())
    }

    fn field<'de, A: MapAccess<'de>>(&mut self, path: &str, map: &mut A) -> Result<(), A::Error> {
        let slot = self.schema.slot(path);
        let is_key = path == "targetingKey" && !self.schema.kinds.is_empty();
        if slot.is_some() || is_key {
            let json = map.next_value_seed(JsonVisitor(Skip))?;
            if let Some(slot) = slot {
                self.put(slot, json.value(self.kind_of(slot)));
            }
            if is_key {
                self.targeting_key = Some(json.value(None));
            }
            return Ok(());
        }
        if !self.schema.has_fields {
            return map.next_value_seed(JsonVisitor(Skip)).map(|_| ());
        }
        let prefix = format!("{path}.");
        self.forget(&prefix);
        let fields = Fields {
            reader: self,
            prefix: &prefix,
        };
        map.next_value_seed(JsonVisitor(fields)).map(|_| ())
    }

    fn put(&mut self, slot: usize, found: Found) {
        self.wrong.retain(|(wrong, _)| *wrong != slot);
        match found {
            Ok(value) => self.context.values[slot] = value,
            Err(found) => self.wrong.push((slot, found)),
        }
    }

    /// A later object of the same name replaces the whole of an earlier one.
    fn forget(&mut self, prefix: &str) {
        for (slot, attribute) in self.schema.attributes.iter().enumerate() {
            if attribute.name.starts_with(prefix) {
                self.put(slot, Ok(Value::Null));
            }
        }
    }

    /// None for an identifier.
    fn kind_of(&self, slot: usize) -> Option<Type> {
        let is_unit = self.schema.kinds.iter().any(|kind| kind.slot == slot);
        (!is_unit).then(|| self.schema.attributes[slot].kind)
    }

    fn finish(mut self) -> Result<Context, ContextError> {
        if let (Some(kind), Some(key)) = (self.schema.kinds.first(), self.targeting_key.take()) {
            self.put(kind.slot, key);
        }
        match self.wrong.first() {
            None => Ok(self.context),
            Some((slot, found)) => {
                let attribute = &self.schema.attributes[*slot];
                Err(ContextError {
                    attribute: attribute.name.to_string(),
                    expected: attribute.kind,
                    found,
                })
            }
        }
    }
}

/// What to do with an object on the way.
trait Objects {
    fn read<'de, A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error>;
}

/// Reads it to its end.
struct Skip;

impl Objects for Skip {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<Name<'de>>()?.is_some() {
            map.next_value_seed(JsonVisitor(Skip))?;
        }
        Ok(())
    }
}

/// Looks for declared attributes among its fields.
struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    prefix: &'r str,
}

impl Objects for Fields<'_, '_> {
    fn read<'de, A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.reader.fields(self.prefix, map)
    }
}

/// A JSON value as far as an attribute can hold it.
enum Json<'de> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Beyond the largest `i64`.
    Large(u64),
    Float(f64),
    Text(Cow<'de, str>),
    Texts(Box<[Box<str>]>),
    /// A list that holds something else than texts.
    List,
    Object,
}

/// Reads any JSON.
struct JsonVisitor<O>(O);

impl<'de, O: Objects> DeserializeSeed<'de> for JsonVisitor<O> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, O: Objects> Visitor<'de> for JsonVisitor<O> {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Json<'de>, E> {
        Ok(Json::Boolean(boolean))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(integer))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(integer).map_or(Json::Large(integer), Json::Integer))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(float))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut texts = Some(Vec::new());
        while let Some(item) = items.next_element_seed(JsonVisitor(Skip))? {
            match (item, &mut texts) {
                (Json::Text(text), Some(texts)) => texts.push(text.into()),
                _ => texts = None,
            }
        }
        Ok(texts.map_or(Json::List, |texts| Json::Texts(texts.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Json<'de>, A::Error> {
        self.0.read(map).map(|()| Json::Object)
    }
}

impl Json<'_> {
    /// The value of an attribute of that type, of an identifier when there is none.
    fn value(&self, kind: Option<Type>) -> Found {
        let value = match (kind, self) {
            (_, Self::Null) => Some(Value::Null),
            (None | Some(Type::Text), Self::Text(text)) => Some(Value::Text(text.as_ref().into())),
            // Identifiers may come as numbers; they are hashed as they are written.
            (None, Self::Integer(number)) => Some(Value::Text(number.to_string().into())),
            (None, Self::Large(number)) => Some(Value::Text(number.to_string().into())),
            (Some(Type::Boolean), Self::Boolean(boolean)) => Some(Value::Boolean(*boolean)),
            (Some(Type::Integer), Self::Integer(integer)) => Some(Value::Integer(*integer)),
            (Some(Type::Integer), Self::Float(float)) => whole(*float).map(Value::Integer),
            (Some(Type::Float), Self::Integer(integer)) => Some(Value::Float(*integer as f64)),
            (Some(Type::Float), Self::Large(integer)) => Some(Value::Float(*integer as f64)),
            (Some(Type::Float), Self::Float(float)) => Some(Value::Float(*float)),
            (Some(Type::Timestamp), Self::Text(text)) => {
                parse_timestamp(text).map(Value::Timestamp)
            }
            // A version that is none is unknown, as `semver(...)` says on history.
            (Some(Type::Version), Self::Text(text)) => {
                Some(version_key(text).map_or(Value::Null, |key| Value::Text(key.into())))
            }
            (Some(Type::Texts), Self::Texts(texts)) => Some(Value::Texts(texts.clone())),
            _ => None,
        };
        value.ok_or(self.name())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Integer(_) | Self::Large(_) | Self::Float(_) => "number",
            Self::Text(_) => "string that can be read so",
            Self::Texts(_) | Self::List => "list",
            Self::Object => "object",
        }
    }
}

/// JavaScript clients write whole numbers as `3` and sometimes as `3.0`.
fn whole(float: f64) -> Option<i64> {
    (float.fract() == 0.0 && float.abs() < 9.0e15).then_some(float as i64)
}

/// A name that is borrowed from the input unless it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}
