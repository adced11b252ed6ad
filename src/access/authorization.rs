//! What a client says in its `Authorization` header.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

/// A name and what should prove it. Nothing is checked yet.
#[derive(Clone)]
pub struct Login {
    pub username: String,
    pub secret: SecretString,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub(super) enum Authorization<'a> {
    /// None, or of a kind that nobody asked for.
    Nothing,
    Basic(Login),
    Bearer(&'a str),
    Malformed,
}

impl<'a> Authorization<'a> {
    pub(super) fn read(header: Option<&'a str>) -> Authorization<'a> {
        let Some((scheme, rest)) = header.and_then(|header| header.split_once(' ')) else {
            return Authorization::Nothing;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            Login::decode(rest).map_or(Authorization::Malformed, Authorization::Basic)
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Authorization::Bearer(rest)
        } else {
            Authorization::Nothing
        }
    }
}

impl Login {
    /// Longer names and secrets are nobody's; identity tokens have a few thousand bytes.
    const BYTES_MAX: usize = 16 << 10;

    /// `None` where no name is given.
    pub fn new(username: &str, secret: &str) -> Option<Login> {
        let fits = !username.is_empty()
            && username.len() + secret.len() <= Login::BYTES_MAX
            && !username.chars().any(char::is_control);
        fits.then(|| Login {
            username: username.to_owned(),
            secret: secret.into(),
        })
    }

    /// From the value of an `Authorization` header with Basic.
    pub fn read(header: &str) -> Option<Login> {
        match Authorization::read(Some(header)) {
            Authorization::Basic(login) => Some(login),
            Authorization::Nothing | Authorization::Bearer(_) | Authorization::Malformed => None,
        }
    }

    fn decode(encoded: &str) -> Option<Login> {
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (username, secret) = decoded.split_once(':')?;
        Login::new(username, secret)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_login_is_read_and_its_secret_not_shown() {
        let header = format!("basic {}", STANDARD.encode("ci:a:b"));
        let Authorization::Basic(login) = Authorization::read(Some(&header)) else {
            panic!("{header} is a login");
        };
        assert_eq!(login.username, "ci");
        assert_eq!(login.secret.expose_secret(), "a:b");
        assert!(!format!("{login:?}").contains("a:b"));
    }

    #[test]
    fn what_is_no_login_is_told_apart_from_nothing() {
        for wrong in [
            "Basic !",
            "Basic ",
            "Basic Y2k=",
            "Basic OnB3",
            "Basic /w==",
        ] {
            let read = Authorization::read(Some(wrong));
            assert!(matches!(read, Authorization::Malformed), "{wrong}");
        }
        for nothing in [None, Some(""), Some("Basic"), Some("Digest x"), Some("x")] {
            let read = Authorization::read(nothing);
            assert!(matches!(read, Authorization::Nothing), "{nothing:?}");
        }
        assert!(matches!(
            Authorization::read(Some("Bearer a.b.c")),
            Authorization::Bearer("a.b.c")
        ));
    }
}
