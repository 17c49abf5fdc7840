//! The kinds of units and their attributes.

use super::places::place;
use super::{FlagSource, Resolver};
use crate::diagnostics::{Code, did_you_mean};
use crate::flags::context::Type;
use crate::flags::spec::ContextSpec;

impl Resolver {
    pub fn contexts(&mut self, source: &FlagSource) {
        for (name, spec) in source.spec.contexts.iter() {
            if self.set.schema.kind(&name.value).is_some() {
                let message = format!("two contexts are named `{}`", name.value);
                self.error(
                    Code::E0201,
                    &place(&source.file, name),
                    message,
                    "declare each context once",
                );
                continue;
            }
            self.context(source, &name.value, spec);
        }
    }

    /// A project without contexts knows its users by `user_id`.
    pub fn implied_context(&mut self) {
        if self.set.schema.kinds().is_empty() {
            self.set.schema.add_kind("user", "user_id");
        }
    }

    fn context(&mut self, source: &FlagSource, name: &str, spec: &ContextSpec) {
        self.set.schema.add_kind(name, &spec.unit.value);
        for (attribute, kind) in spec.attributes.iter() {
            let Some(parsed) = Type::parse(&kind.value) else {
                let message = format!(
                    "unknown type `{}` of attribute `{}`",
                    kind.value, attribute.value
                );
                let hint = did_you_mean(&kind.value, Type::NAMES);
                self.error(Code::E0106, &place(&source.file, kind), message, hint);
                continue;
            };
            let slot = self.set.schema.add_attribute(&attribute.value, parsed);
            let known = self.set.schema.attributes()[slot].kind;
            if known != parsed {
                let message = format!(
                    "attribute `{}` is a {parsed} here and a {known} elsewhere",
                    attribute.value
                );
                let hint = "attributes of all contexts arrive in one request: give them one type, or two names";
                self.error(Code::E0606, &place(&source.file, kind), message, hint);
            }
        }
    }
}
