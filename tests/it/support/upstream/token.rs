//! The token service: GET with Basic or anonymous, the OAuth2 POST, and the tokens it gave out.

use std::collections::HashMap;

use base64::Engine;
use http::Method;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant};

use super::log::{Asked, On};
use super::send::Reply;
use super::{Settings, State};

#[derive(Default)]
pub(super) struct Tokens {
    granted: HashMap<String, Granted>,
    serial: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Granted {
    pub(super) account: Option<String>,
    scopes: Vec<String>,
    expires: Option<Instant>,
}

impl Tokens {
    /// Whom a token belongs to, where it is good for `scope`; else the challenge's error.
    pub(super) fn check(&self, token: &str, scope: Option<&str>) -> Result<Granted, &'static str> {
        let granted = self.granted.get(token).ok_or("invalid_token")?;
        if granted.expires.is_some_and(|end| end <= Instant::now()) {
            return Err("invalid_token");
        }
        match scope {
            Some(scope) if !granted.scopes.iter().any(|given| given == scope) => {
                Err("insufficient_scope")
            }
            Some(_) | None => Ok(granted.clone()),
        }
    }

    pub(super) fn revoke(&mut self) {
        self.granted.clear();
    }

    fn grant(&mut self, granted: Granted) -> String {
        self.serial += 1;
        let token = format!("fake-token-{}", self.serial);
        self.granted.insert(token.clone(), granted);
        token
    }
}

/// The account of a Basic `Authorization` header: `Ok(None)` without one, `Err` for a wrong one.
pub(super) fn basic_account(settings: &Settings, asked: &Asked) -> Result<Option<String>, ()> {
    let Some(header) = asked.header("authorization") else {
        return Ok(None);
    };
    let encoded = header.strip_prefix("Basic ").ok_or(())?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|_| ())?;
    let decoded = String::from_utf8(decoded).map_err(|_| ())?;
    let (user, password) = decoded.split_once(':').ok_or(())?;
    let account = (user.to_owned(), password.to_owned());
    if settings.accounts.contains(&account) {
        Ok(Some(account.0))
    } else {
        Err(())
    }
}

pub(super) fn answer(state: &State, asked: &Asked) -> (On, Reply) {
    let settings = state.settings();
    let wrong = Reply::json(401, &json!({"details": "incorrect username or password"}));
    let (account, scopes) = match (asked.path.as_str(), &asked.method) {
        ("/token", &Method::GET) => {
            let Ok(account) = basic_account(&settings, asked) else {
                return (On::Token, wrong);
            };
            (account, asked.parameters("scope"))
        }
        ("/token", &Method::POST) if settings.token.post => {
            let Some(account) = form_account(&settings, asked) else {
                return (On::Token, wrong);
            };
            let scopes = asked.form("scope").unwrap_or_default();
            (
                Some(account),
                scopes.split(' ').map(str::to_owned).collect(),
            )
        }
        _ => return (On::Odd, Reply::new(404, "")),
    };
    match (&account, settings.token.refuse_anonymous) {
        (None, Some(status)) => {
            let refusal = Reply::error(status, "DENIED", "requested access is denied");
            (On::Token, refusal)
        }
        _ => (On::Token, grant(state, &settings, account, scopes)),
    }
}

fn form_account(settings: &Settings, asked: &Asked) -> Option<String> {
    let secret = match asked.form("grant_type")?.as_str() {
        "refresh_token" => asked.form("refresh_token")?,
        "password" => asked.form("password")?,
        _ => return None,
    };
    let user = asked.form("username");
    let mut accounts = settings.accounts.iter();
    let fits = |(name, password): &&(String, String)| {
        *password == secret && user.as_ref().is_none_or(|user| user == name)
    };
    accounts.find(fits).map(|(name, _)| name.clone())
}

fn grant(
    state: &State,
    settings: &Settings,
    account: Option<String>,
    mut scopes: Vec<String>,
) -> Reply {
    // Docker Hub gives everybody a token; what the account may not pull is just not in it.
    scopes.retain(|scope| {
        let repository = scope.split(':').nth(1).unwrap_or_default();
        settings.lets_in(account.as_deref(), repository)
    });
    let lifetime = settings.token.expires_in.map(Duration::from_secs);
    let token = state.tokens().grant(Granted {
        account,
        scopes,
        expires: lifetime.map(|lifetime| Instant::now() + lifetime),
    });
    let mut document = Map::new();
    for field in &settings.token.fields {
        document.insert((*field).to_owned(), token.clone().into());
    }
    if let Some(seconds) = settings.token.expires_in {
        document.insert("expires_in".to_owned(), seconds.into());
    }
    if let Some(issued_at) = &settings.token.issued_at {
        document.insert("issued_at".to_owned(), issued_at.clone().into());
    }
    Reply::json(200, &Value::Object(document))
}
