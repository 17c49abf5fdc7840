//! The functions that templates call: dbt's words, and those that write SQL from metrics and experiments.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::scope::{self, Log, Scope, json_value};
use crate::diagnostics::{Code, Diagnostic};

pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_function("ref", reference);
    environment.add_function("source", source);
    environment.add_global("config", Value::from_object(Config));
    environment.add_function("var", var);
    environment.add_function("env_var", env_var);
    environment.add_function("is_incremental", |state: &State<'_, '_>| {
        scope::of(state).map(|scope| scope.is_incremental)
    });
    environment.add_function("log", log);
    environment.add_function("print", |state: &State<'_, '_>, message: Value| {
        log_message(state, &message, true)
    });
    environment.add_function("return", return_value);
    environment.add_global("exceptions", Value::from_object(Exceptions));
    environment.add_global("adapter", Value::from_object(Adapter));
    environment.add_function("tojson", |value: Value| {
        serde_json::to_string(&value).map_err(invalid)
    });
    environment.add_function("fromjson", |text: &str| {
        serde_json::from_str::<serde_json::Value>(text)
            .map(|value| json_value(&value))
            .map_err(invalid)
    });
    for function in super::scope::DOMAIN_FUNCTIONS {
        environment.add_global(*function, Value::from_object(DomainFunction(function)));
    }
}

fn invalid(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidOperation, error.to_string())
}

/// `ref('model')`, `ref('package', 'model')`.
fn reference(state: &State<'_, '_>, names: Rest<Value>) -> Result<String, Error> {
    let scope = scope::of(state)?;
    let name = names
        .iter()
        .rfind(|name| !name.is_kwargs())
        .map(ToString::to_string)
        .ok_or(ErrorKind::MissingArgument)?;
    Ok(scope
        .relations
        .reference(&name)
        .unwrap_or_else(|problem| unknown(state, &scope, &[&name], problem)))
}

fn source(state: &State<'_, '_>, source: &str, table: &str) -> Result<String, Error> {
    let scope = scope::of(state)?;
    Ok(scope
        .relations
        .source(source, table)
        .unwrap_or_else(|problem| unknown(state, &scope, &[source, table], problem)))
}

/// Rendering goes on after an unknown name, so that all of them are reported at once.
fn unknown(
    state: &State<'_, '_>,
    scope: &Scope,
    arguments: &[&str],
    problem: Diagnostic,
) -> String {
    scope.add_problem(state.name(), arguments, problem);
    "__unknown__".to_string()
}

fn var(state: &State<'_, '_>, name: &str, default: Option<Value>) -> Result<Value, Error> {
    let scope = scope::of(state)?;
    match (scope.surroundings.vars.get(name), default) {
        (Some(value), _) => Ok(json_value(value)),
        (None, Some(default)) => Ok(default),
        (None, None) => {
            let hint = format!(
                "set it under `vars` in the project file, with `--vars '{{{name}: ...}}'`, or give a default: `var('{name}', ...)`"
            );
            Err(scope::stop(
                &scope,
                Code::E0404,
                format!("the variable `{name}` is not set"),
                Some(hint),
            ))
        }
    }
}

fn env_var(state: &State<'_, '_>, name: &str, default: Option<Value>) -> Result<Value, Error> {
    let scope = scope::of(state)?;
    match (scope.surroundings.environment_variables.get(name), default) {
        (Some(value), _) => Ok(Value::from(value.clone())),
        (None, Some(default)) => Ok(default),
        (None, None) => {
            let hint = format!("export it, or give a default: `env_var('{name}', '...')`");
            Err(scope::stop(
                &scope,
                Code::E0404,
                format!("the environment variable `{name}` is not set"),
                Some(hint),
            ))
        }
    }
}

fn log(
    state: &State<'_, '_>,
    message: Value,
    info: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let named: Option<bool> = kwargs.get("info")?;
    log_message(
        state,
        &message,
        named.unwrap_or(info.is_some_and(|info| info.is_true())),
    )
}

fn log_message(state: &State<'_, '_>, message: &Value, is_info: bool) -> Result<String, Error> {
    let scope = scope::of(state)?;
    if scope.execute {
        scope.add_log(Log {
            message: message.to_string(),
            is_info,
        });
    }
    Ok(String::new())
}

/// dbt's `return`: ends a macro with a value that need not be text. It travels as an error that [`MacroProxy`] catches.
fn return_value(value: Option<Value>) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        "`return` works only in a macro",
    )
    .with_source(Returned(value.unwrap_or(Value::from(())))))
}

#[derive(Debug)]
struct Returned(Value);

impl std::fmt::Display for Returned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("return")
    }
}

impl std::error::Error for Returned {}

/// `config(materialized='table')`, `config.get('key', default)`, `config.require('key')`.
#[derive(Debug)]
struct Config;

impl Object for Config {
    fn call(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        let scope = scope::of(state)?;
        let mut settings = serde_json::Map::new();
        for argument in arguments {
            let value = serde_json::to_value(argument).map_err(invalid)?;
            let serde_json::Value::Object(map) = value else {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "config takes named settings: `config(materialized='table')`",
                ));
            };
            settings.extend(map);
        }
        scope.add_config(settings);
        Ok(Value::from(""))
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        let scope = scope::of(state)?;
        let key = arguments
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let found = scope.config.get(&key).map(json_value);
        match method {
            "get" => Ok(found
                .or(arguments.get(1).cloned())
                .unwrap_or(Value::from(()))),
            "require" => found.ok_or_else(|| {
                scope::stop(
                    &scope,
                    Code::E0402,
                    format!("the setting `{key}` is required"),
                    None,
                )
            }),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `exceptions.raise_compiler_error('...')`, `exceptions.warn('...')`.
#[derive(Debug)]
struct Exceptions;

impl Object for Exceptions {
    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        let scope = scope::of(state)?;
        let message = arguments
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        match method {
            "raise_compiler_error" => Err(scope::stop(&scope, Code::E0403, message, None)),
            "warn" => log_message(state, &Value::from(message), true).map(Value::from),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `adapter.dispatch('name', 'package')(...)`: the variant for this engine, else the default, else the name itself.
#[derive(Debug)]
struct Adapter;

impl Object for Adapter {
    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        let name = arguments
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        match method {
            "dispatch" => ["datafusion__", "default__", ""]
                .iter()
                .find_map(|prefix| state.lookup(&format!("{prefix}{name}")))
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::UnknownFunction,
                        format!("there is no macro `{name}` to dispatch to"),
                    )
                }),
            "quote" => Ok(Value::from(format!("\"{}\"", name.replace('"', "\"\"")))),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// A macro that every template can call without importing it. Each call evaluates the macro's file in the caller's scope.
#[derive(Debug)]
pub(super) struct MacroProxy {
    pub file: Arc<str>,
    pub name: String,
}

impl Object for MacroProxy {
    fn call(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        let scope = scope::of(state)?;
        let template = state.env().get_template(&self.file)?;
        let outcome = scope.call(&self.name, || {
            let mut captured = template.render_captured(scope.context())?;
            captured.with_state_mut(|inner| {
                let function = inner
                    .lookup(&self.name)
                    .ok_or_else(|| Error::new(ErrorKind::UnknownFunction, self.name.clone()))?;
                function.call(inner, arguments)
            })
        });
        outcome.or_else(|error| returned(&error).ok_or(error))
    }
}

fn returned(error: &Error) -> Option<Value> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(returned) = inner.downcast_ref::<Returned>() {
            return Some(returned.0.clone());
        }
        source = inner.source();
    }
    None
}

/// A function whose SQL the compiler writes from the project's metrics and experiments.
#[derive(Debug)]
struct DomainFunction(&'static str);

impl Object for DomainFunction {
    fn call(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        let scope = scope::of(state)?;
        let mut named = BTreeMap::new();
        for (position, argument) in arguments.iter().enumerate() {
            if !argument.is_kwargs() {
                named.insert(position.to_string(), argument.to_string());
                continue;
            }
            for key in argument.try_iter()? {
                let value = argument.get_item(&key)?;
                named.insert(key.to_string(), value.to_string());
            }
        }
        match scope.relations.domain(self.0, &named) {
            Ok(sql) => Ok(Value::from(sql)),
            Err(problem) => Err(scope::stop(
                &scope,
                problem.code,
                problem.message,
                problem.hint,
            )),
        }
    }
}
