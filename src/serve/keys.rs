//! API keys: who may do what, in which environment.
//! In: lines `environment:scope,scope:secret` from a variable or a file. Out: the [`Caller`] of a request, or 401 or 403.
//! Secrets are kept as hashes only and compared in constant time; nothing here prints one.

use axum::http::HeaderMap;
use subtle::ConstantTimeEq;

/// The keys of a server. Without any, every request may do everything.
#[derive(Default)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
}

impl ApiKeys {
    /// Reads keys, one a line; empty lines and lines starting with `#` are skipped.
    ///
    /// # Errors
    /// The number of each wrong line and what is wrong with it, without the secret.
    pub fn read(text: &str) -> Result<ApiKeys, Vec<String>> {
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match read_line(line) {
                Ok(key) => keys.push(key),
                Err(why) => problems.push(format!("line {} of the API keys: {why}", index + 1)),
            }
        }
        if problems.is_empty() {
            Ok(ApiKeys { keys })
        } else {
            Err(problems)
        }
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Who sent the request: the key of `Authorization: Bearer …` or `X-API-Key: …`.
    pub(super) fn authorize(
        &self,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Caller<'_>, Denied> {
        if self.keys.is_empty() {
            return Ok(Caller {
                environment: None,
                index: 0,
            });
        }
        self.check(presented(headers).ok_or(Denied::Unauthorized)?, scope)
    }

    /// The same for a secret that came in the path of a request.
    pub(super) fn check(&self, secret: &str, scope: Scope) -> Result<Caller<'_>, Denied> {
        self.find(&hash(secret), scope, |key| &key.hash)
    }

    /// The same for a [`stream_token`](Self::stream_token), which opens the event stream only.
    pub(super) fn check_stream_token(&self, token: &str) -> Result<Caller<'_>, Denied> {
        if self.keys.is_empty() {
            return Ok(Caller {
                environment: None,
                index: 0,
            });
        }
        let given = blake3::Hash::from_hex(token).map_err(|_| Denied::Unauthorized)?;
        self.find(given.as_bytes(), Scope::Evaluate, |key| &key.stream_token)
    }

    /// What a browser puts into the address of the event stream, where it cannot send headers. The same after a restart.
    pub(super) fn stream_token(&self, caller: &Caller<'_>) -> Option<String> {
        self.keys.get(caller.index).map(|key| {
            blake3::Hash::from_bytes(key.stream_token)
                .to_hex()
                .to_string()
        })
    }

    /// Compares with every key, so that the time tells nothing about which one was near.
    fn find(
        &self,
        given: &[u8; 32],
        scope: Scope,
        part: impl Fn(&ApiKey) -> &[u8; 32],
    ) -> Result<Caller<'_>, Denied> {
        let mut found = None;
        for (index, key) in self.keys.iter().enumerate() {
            if bool::from(part(key).ct_eq(given)) {
                found = Some((index, key));
            }
        }
        let (index, key) = found.ok_or(Denied::Unauthorized)?;
        if !key.scopes.contains(&scope) {
            return Err(Denied::Forbidden);
        }
        Ok(Caller {
            environment: Some(&key.environment),
            index,
        })
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// OFREP evaluations and the event stream.
    Evaluate,
    /// Sending events.
    Events,
    /// Reading the definitions: the UFC and GrowthBook documents.
    Definitions,
}

/// The key a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// None without configured keys.
    pub environment: Option<&'a str>,
    /// Position of the key.
    pub index: usize,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No key, or one that does not exist: 401.
    Unauthorized,
    /// A key without the scope: 403.
    Forbidden,
}

struct ApiKey {
    environment: String,
    scopes: Vec<Scope>,
    hash: [u8; 32],
    stream_token: [u8; 32],
}

/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;

fn read_line(line: &str) -> Result<ApiKey, String> {
    let mut parts = line.splitn(3, ':');
    let (Some(environment), Some(scopes), Some(secret)) =
        (parts.next(), parts.next(), parts.next())
    else {
        return Err("it is not `environment:scopes:secret`".to_string());
    };
    if environment.is_empty() {
        return Err("the environment is empty".to_string());
    }
    if secret.len() < SHORTEST_SECRET {
        return Err(format!(
            "the secret has fewer than {SHORTEST_SECRET} characters"
        ));
    }
    let scopes = scopes
        .split(',')
        .map(read_scope)
        .collect::<Result<_, _>>()?;
    let stream_token = blake3::derive_key("equipoise 2026 event stream token", secret.as_bytes());
    Ok(ApiKey {
        environment: environment.to_string(),
        scopes,
        hash: hash(secret),
        stream_token,
    })
}

fn read_scope(name: &str) -> Result<Scope, String> {
    match name.trim() {
        "evaluate" => Ok(Scope::Evaluate),
        "events" => Ok(Scope::Events),
        "definitions" => Ok(Scope::Definitions),
        other => Err(format!(
            "`{other}` is not one of the scopes evaluate, events, definitions"
        )),
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let (scheme, key) = headers
        .get("authorization")?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn hash(secret: &str) -> [u8; 32] {
    *blake3::hash(secret.as_bytes()).as_bytes()
}
