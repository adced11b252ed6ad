//! The users of an htpasswd file.
//!
//! bcrypt is slow on purpose, so it never runs on an async worker, only so many at a time, and what
//! it found out is remembered for a minute under a keyed hash of the password.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::authorization::Login;

const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Right and wrong passwords that are remembered, at most.
const REMEMBERED_MAX: u64 = 10_000;
/// Passwords that are checked at once, and that wait for it.
const CHECKS_MAX: usize = 2;
const WAITING_MAX: usize = 256;
/// Checked in place of the hash of a user who does not exist, so that the answer takes as long.
const NOBODY: &str = "$2y$10$Hz9wIyOQlHiKNgcR9bwepedUmjYydWSnfnv/iRVtCTKMY/hF0MQMe";

type Fingerprint = [u8; 32];

#[derive(Debug)]
pub(super) struct Passwords {
    users: HashMap<String, String>,
    /// Makes the fingerprints worth nothing outside of this process.
    salt: [u8; 32],
    right: moka::sync::Cache<Fingerprint, ()>,
    wrong: moka::sync::Cache<Fingerprint, ()>,
    checks: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Why an htpasswd file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPasswords {
    #[error("{}: {source}", .file.display())]
    Unreadable {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{}, line {line}: a user stands there as name:$2y$…, as `htpasswd -B` writes it", .file.display())]
    Line { file: PathBuf, line: usize },
}

/// Too many passwords are waiting to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded;

impl Passwords {
    pub(super) fn read(file: &Path, salt: [u8; 32]) -> Result<Passwords, InvalidPasswords> {
        let text =
            std::fs::read_to_string(file).map_err(|source| InvalidPasswords::Unreadable {
                file: file.to_owned(),
                source,
            })?;
        let users = parse(&text).map_err(|line| InvalidPasswords::Line {
            file: file.to_owned(),
            line,
        })?;
        let memory = || {
            moka::sync::Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(REMEMBERED_FOR)
                .build()
        };
        Ok(Passwords {
            users,
            salt,
            right: memory(),
            wrong: memory(),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        })
    }

    pub(super) async fn verify(&self, login: &Login) -> Result<bool, Crowded> {
        let fingerprint = self.fingerprint(login);
        if self.right.contains_key(&fingerprint) {
            return Ok(true);
        }
        if self.wrong.contains_key(&fingerprint) {
            return Ok(false);
        }
        let waiting = self
            .waiting
            .clone()
            .try_acquire_owned()
            .map_err(|_| Crowded)?;
        let turn = self
            .checks
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Crowded)?;
        let hash = self.users.get(&login.username).cloned();
        let secret = login.secret.clone();
        // The permits go along: a client that leaves does not make room for one check more.
        let check = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(secret.expose_secret(), hash.as_deref().unwrap_or(NOBODY));
            drop((waiting, turn));
            hash.is_some() && right.unwrap_or(false)
        });
        let right = check.await.map_err(|_| Crowded)?;
        let remembered = if right { &self.right } else { &self.wrong };
        remembered.insert(fingerprint, ());
        Ok(right)
    }

    fn fingerprint(&self, login: &Login) -> Fingerprint {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update((login.username.len() as u64).to_be_bytes());
        hasher.update(&login.username);
        hasher.update(login.secret.expose_secret());
        hasher.finalize().into()
    }
}

/// `Err` is the number of the first line that is no user.
fn parse(text: &str) -> Result<HashMap<String, String>, usize> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| {
            let user = line.split_once(':').filter(|(name, hash)| {
                let is_bcrypt = ["$2y$", "$2b$", "$2a$"].iter().any(|p| hash.starts_with(p));
                !name.is_empty() && is_bcrypt && hash.len() == 60
            });
            let (name, hash) = user.ok_or(at + 1)?;
            Ok((name.to_owned(), hash.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(users: &[(&str, &str)]) -> Passwords {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = users.iter().map(|(name, password)| {
            let hash = bcrypt::hash(password, 4).unwrap();
            format!("{name}:{hash}\n")
        });
        std::fs::write(file.path(), lines.collect::<String>()).unwrap();
        Passwords::read(file.path(), [7; 32]).unwrap()
    }

    fn login(name: &str, secret: &str) -> Login {
        Login::new(name, secret).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_of_the_right_user_is_right() {
        let passwords = passwords(&[("ci", "secret"), ("dev", "other")]);
        for _ in ["asked", "remembered"] {
            assert_eq!(passwords.verify(&login("ci", "secret")).await, Ok(true));
            for (name, secret) in [
                ("ci", "other"),
                ("dev", "secret"),
                ("ci", ""),
                ("cise", "cret"),
            ] {
                let verified = passwords.verify(&login(name, secret)).await;
                assert_eq!(verified, Ok(false), "{name} {secret}");
            }
        }
    }

    #[tokio::test]
    async fn a_user_who_does_not_exist_is_checked_all_the_same() {
        assert!(!bcrypt::verify("x", NOBODY).expect("it is a hash"));
        assert_eq!(passwords(&[]).verify(&login("ci", "x")).await, Ok(false));
    }

    #[test]
    fn a_line_that_is_no_user_is_named() {
        let hash = bcrypt::hash("x", 4).unwrap();
        assert_eq!(parse(&format!("# users\n\nci:{hash}\n")).unwrap().len(), 1);
        for wrong in ["ci", "ci:plain", "ci:$apr1$x$y", ":$2y$", "ci:$2y$10$short"] {
            assert_eq!(parse(&format!("ci:{hash}\n{wrong}\n")), Err(2), "{wrong}");
        }
    }
}
