//! Tokens that weir gives to whoever has said who they are.
//!
//! A token is signed with a key that lives as long as the process, says who its bearer is and
//! nothing of what they may have: that is decided at each request. A client's own login for an
//! upstream is never in a token; it stays here, under the token's number, for as long.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls::crypto::SecureRandom;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::authorization::Login;
use crate::clock::Timestamp;
use crate::oci::RegistryName;

/// docker wants a minute at least; a layer that takes longer needs no new token.
pub(super) const VALID_FOR: Duration = Duration::from_secs(300);
/// Logins that are kept, at most.
const LOGINS_MAX: u64 = 10_000;
const ISSUER: &str = "weir";
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 4 << 10;

/// The process's own secrets. Cheap to clone; outlives reloads, so that tokens do.
#[derive(Clone)]
pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// For the fingerprints of passwords.
    pub(super) salt: [u8; 32],
    logins: moka::sync::Cache<String, BoundLogin>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// A login for one registry: no other may see it.
#[derive(Debug, Clone)]
pub struct BoundLogin {
    pub registry: RegistryName,
    pub login: Login,
}

/// What a token says.
#[derive(Debug, Clone)]
pub(super) struct Bearer {
    pub(super) user: Option<Arc<str>>,
    pub(super) login: Option<BoundLogin>,
    /// A login was shown that weir does not know, and that is for none of the registries that would.
    pub(super) unjudged: bool,
}

/// A token, and what its bearer is told about it.
#[derive(Debug, Clone)]
pub struct Grant {
    pub token: String,
    pub valid_for: Duration,
    pub issued_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    /// In seconds since the Unix epoch.
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// The number under which the login is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unjudged: bool,
}

impl Keys {
    /// New secrets, from the randomness that TLS uses.
    pub fn generate() -> Keys {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key: [u8; 32] = random(provider.secure_random);
        let salt = random(provider.secure_random);
        Keys {
            encoding: EncodingKey::from_secret(&key),
            decoding: DecodingKey::from_secret(&key),
            salt,
            logins: moka::sync::Cache::builder()
                .max_capacity(LOGINS_MAX)
                .time_to_live(VALID_FOR)
                .build(),
        }
    }

    pub(super) fn issue(&self, bearer: Bearer, now: Timestamp) -> Grant {
        let login = bearer.login.map(|login| {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let number = Uuid::from_bytes(random(provider.secure_random));
            let number = number.simple().to_string();
            self.logins.insert(number.clone(), login);
            number
        });
        let claims = Claims {
            iss: ISSUER.to_owned(),
            exp: now.plus(VALID_FOR).0 / 1000,
            sub: bearer.user.map(|user| user.to_string()),
            login,
            unjudged: bearer.unjudged,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding);
        Grant {
            token: token.expect("claims are JSON, and the key is of this algorithm"),
            valid_for: VALID_FOR,
            issued_at: now,
        }
    }

    /// `None`: not one of weir's tokens, or not any more.
    pub(super) fn read(&self, token: &str, now: Timestamp) -> Option<Bearer> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        // By weir's own clock, below.
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
        let claims = decoded.ok()?.claims;
        if claims.exp <= now.0 / 1000 {
            return None;
        }
        let login = match claims.login {
            Some(number) => Some(self.logins.get(&number)?),
            None => None,
        };
        Some(Bearer {
            user: claims.sub.map(Into::into),
            login,
            unjudged: claims.unjudged,
        })
    }
}

fn random<const N: usize>(source: &dyn SecureRandom) -> [u8; N] {
    let mut bytes = [0; N];
    source
        .fill(&mut bytes)
        .expect("the operating system has randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn ci() -> Bearer {
        Bearer {
            user: Some("ci".into()),
            login: Some(BoundLogin {
                registry: "ghcr.io".parse().unwrap(),
                login: Login::new("ci", "hunter2").unwrap(),
            }),
            unjudged: false,
        }
    }

    #[test]
    fn a_token_brings_back_who_got_it_until_it_expires() {
        let keys = Keys::generate();
        let grant = keys.issue(ci(), NOW);
        let bearer = keys.read(&grant.token, NOW.plus(VALID_FOR / 2)).unwrap();
        assert_eq!(bearer.user.as_deref(), Some("ci"));
        assert_eq!(bearer.login.unwrap().login.username, "ci");
        assert!(keys.read(&grant.token, NOW.plus(VALID_FOR)).is_none());
    }

    #[test]
    fn a_token_of_another_process_or_a_changed_one_is_worth_nothing() {
        let keys = Keys::generate();
        let token = keys.issue(ci(), NOW).token;
        assert!(Keys::generate().read(&token, NOW).is_none());
        let parts: Vec<_> = token.split('.').collect();
        let none = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0";
        for wrong in [
            format!("{none}.{}.", parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{token}x"),
            "x".repeat(100_000),
            String::new(),
        ] {
            assert!(keys.read(&wrong, NOW).is_none());
        }
    }

    #[test]
    fn a_secret_is_never_in_a_token() {
        let token = Keys::generate().issue(ci(), NOW).token;
        let claims = token.split('.').nth(1).unwrap();
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let claims = base64::Engine::decode(&engine, claims).unwrap();
        let claims = String::from_utf8(claims).unwrap();
        assert!(
            claims.contains("ci") && !claims.contains("hunter2"),
            "{claims}"
        );
    }
}
